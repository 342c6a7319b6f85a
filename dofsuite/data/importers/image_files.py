"""Image files that training does not read, as those that it does."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dofsuite.errors import UserError
from dofsuite.files import read_bytes
from dofsuite.images import check_pixels, encode_png

# From light to display values, as BLB is evaluated (*inferred* from BokehDiff's loader).
GAMMA = 2.2


def png_of_16_bits(path: Path) -> tuple[str, bytes]:
    """Return a PNG of 16 bits a color as one of 8, rounded; one of 8 bits stays as it is.

    Raises:
        UserError: OpenCV is missing or cannot read it.
    """
    data = read_bytes(path)
    if path.suffix.lower() != ".png" or data[24:25] != b"\x10":
        return path.suffix[1:].lower(), data
    try:
        import cv2
    except ImportError:
        raise UserError(
            f"{path}: 16 bits a color need OpenCV: pip install opencv-python-headless."
        ) from None
    # A PNG's header says its size at these places
    check_pixels(int.from_bytes(data[16:20]) * int.from_bytes(data[20:24]), str(path))
    values: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise UserError(f"{path}: it is no 16-bit color PNG; copy it again.")
    # OpenCV's blue, green, red
    return "png", encode_png(np.ascontiguousarray(np.rint(values[..., 2::-1] / 257), np.uint8))


def png_of_exr(path: Path) -> tuple[str, bytes]:
    """Return light in OpenEXR as a PNG of 8 bits: clipped to [0, 1], then ** (1 / 2.2)."""
    light = read_exr(path)[..., :3]
    display = np.clip(light, 0, 1) ** (1 / GAMMA)
    return "png", encode_png(np.rint(display * 255).astype(np.uint8))


def npy_of_exr(path: Path) -> tuple[str, bytes]:
    """Return the first channel of a depth map in OpenEXR as float32 `.npy`."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(read_exr(path)[..., 0]))
    return "npy", file.getvalue()


def read_exr(path: Path) -> np.ndarray:
    """Read an OpenEXR file: float32 [h, w, channels], RGB first.

    Raises:
        UserError: The package is missing, or the file is none of OpenEXR.
    """
    try:
        openexr_file = openexr().File
        low, high = openexr_file(str(path), header_only=True).header()["dataWindow"]
        check_pixels(int(high[0] - low[0] + 1) * int(high[1] - low[1] + 1), str(path))
        file = openexr_file(str(path), separate_channels=True)
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    except UserError:
        raise
    except Exception as error:  # its errors have no class of their own
        raise UserError(f"{path}: OpenEXR cannot read it; copy it again.") from error
    # By name, whatever their order in the file
    names = [name for name in "RGB" if name in channels] or list(channels)[:1]
    if not names:
        raise UserError(f"{path}: it has no channel.")
    return np.stack([channels[name].astype(np.float32) for name in names], axis=-1)


@cache
def openexr() -> Any:
    try:
        import OpenEXR
    except ImportError:
        raise UserError("BLB's files need a package: pip install OpenEXR.") from None
    return OpenEXR
