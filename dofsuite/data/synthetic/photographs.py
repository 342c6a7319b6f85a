"""The photographs of the installed scikit-image package, without a download.

scikit-image itself is located but not imported: reading a photograph needs Pillow and a checksum.
Names and licenses are those of `skimage.data`; `data_manifests/synthetic_photographs.yaml` lists
them.
"""

import hashlib
import importlib.util
import io
from functools import cache
from pathlib import Path

from PIL import Image

from dofsuite.errors import UserError

# Name -> (file in the package's data folder, its sha256 in scikit-image's own registry).
PHOTOGRAPHS: dict[str, tuple[str, str]] = {
    "astronaut": (
        "astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    "chelsea": ("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    "coffee": ("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    "rocket": ("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    "brick": ("brick.png", "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf"),
    "grass": ("grass.png", "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89"),
    "gravel": ("gravel.png", "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12"),
    "camera": ("camera.png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a"),
    "coins": ("coins.png", "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba"),
    "hubble": (
        "hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    ),
    "motorcycle_left": (
        "motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    ),
    "motorcycle_disp": (
        "motorcycle_disp.npz",
        "2e49c8cebff3fa20359a0cc6880c82e1c03bbb106da81a177218281bc2f113d7",
    ),
}


def package_bytes(name: str) -> bytes:
    """Return the bytes of one of `PHOTOGRAPHS`, checked against its sha256.

    Raises:
        UserError: scikit-image is not installed, or its file is missing or another one.
    """
    # Locate the package's data folder
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError(
            "synthetic data: its photographs come with the scikit-image package, which is not "
            "installed: pip install 'dofsuite[demo]'."
        )

    # Read and check the file
    file, sha256 = PHOTOGRAPHS[name]
    path = Path(spec.origin).parent / "data" / file
    if not path.is_file():
        raise UserError(
            f"{path}: this photograph is missing from scikit-image: pip install "
            "'scikit-image>=0.23'."
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path}: its sha256 is not the one expected: reinstall scikit-image.")
    return data


@cache
def photograph(name: str) -> Image.Image:
    """Return a photograph as RGB display values; gray ones get three equal channels."""
    with Image.open(io.BytesIO(package_bytes(name)), formats=["PNG", "JPEG"]) as image:
        return image.convert("RGB")
