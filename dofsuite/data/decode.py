"""Decoders by file extension: images, depth maps, masks, JSON and text; nothing is unpickled."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from dofsuite.errors import UserError
from dofsuite.images import IMAGE_EXTENSIONS, decode_image, load_upright, one_line


def decode_depth_image(data: bytes, name: str) -> np.ndarray:
    """Return the stored values, float32 `[h, w]`, of a depth map in a gray 8- or 16-bit image.

    Raises:
        UserError: As for `decode_image`, or the map is colored.
    """
    image = load_upright(data, name)
    if image.mode.startswith("I"):  # 16 bits: `I;16`, in older versions of Pillow `I`
        return np.asarray(image).astype(np.float32)
    if image.mode not in ("L", "1", "LA", "RGB", "RGBA"):
        raise UserError(
            f"{name}: a depth map of mode {image.mode}: store it as a gray PNG (8 or 16 bit) or "
            ".npy."
        )
    values = np.asarray(image.convert("RGB"))
    if (values[..., :1] != values).any():
        raise UserError(
            f"{name}: the depth map is colored: store its values as a gray PNG or .npy."
        )
    return values[..., 0].astype(np.float32)


def decode_npy(data: bytes, name: str) -> np.ndarray:
    """Return an `.npy` file's map, float32 `[h, w]`; `[h, w, 1]` and `[1, h, w]` are squeezed.

    Raises:
        UserError: The file is no array of numbers (pickled objects are not loaded) or has another
            shape.
    """
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # of damaged files NumPy raises nearly anything
        raise UserError(f"{name}: it is not a plain array file: {one_line(error)}.") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise UserError(f"{name}: a depth map must be one array of real numbers.")
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values.squeeze(-1 if values.shape[-1] == 1 else 0)
    if values.ndim != 2:
        raise UserError(f"{name}: a depth map must have shape [h, w], not {list(values.shape)}.")
    return values.astype(np.float32)


def decode_json(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise UserError(f"{name}: it is not JSON: {one_line(error)}.") from error
    if not isinstance(value, dict):
        raise UserError(f"{name}: an object is expected.")
    return value


def decode_text(data: bytes, name: str) -> str:
    """Return a UTF-8 text with every run of white space as one blank."""
    try:
        return " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: it is not UTF-8 text: {one_line(error)}.") from error


# Extension of a sample's file -> its decoder (`sample_record.py` reads `json` and `txt`).
DECODERS: dict[str, Callable[[bytes, str], Any]] = {
    **dict.fromkeys(IMAGE_EXTENSIONS, decode_image),
    **{f"depth.{extension}": decode_depth_image for extension in IMAGE_EXTENSIONS},
    "depth.npy": decode_npy,
    "valid.png": decode_depth_image,
}


def disparity_from_depth_map(
    depth_map: np.ndarray, kind: str, size: tuple[int, int], name: str
) -> np.ndarray:
    """Return the disparity (0 far, 1 near), min-max normalized over the image, float32 `[h, w]`.

    A map of one value (a flat scene) gives zeros.

    Args:
        depth_map: Stored values `[h, w]`.
        kind: `disparity` (larger is nearer), or `depth` (larger is farther; infinite is allowed,
            1/depth is taken).
        size: `(h, w)` of the upright image.
        name: The file, for errors.

    Raises:
        UserError: The map has another size than the image, or values that are no depth.
    """
    # Check size and values
    if depth_map.shape != size:
        found, needed = (f"{w}x{h}" for h, w in (depth_map.shape, size))
        raise UserError(
            f"{name}: the depth map is {found} px and its image {needed} px: resize one of them."
        )
    bad, reason = (
        (~(depth_map > 0), "not a number or not above 0")
        if kind == "depth"
        else (~np.isfinite(depth_map), "not finite (NaN or infinite)")
    )
    if bad.any():
        raise UserError(f"{name}: {bad.sum()} values are {reason}: fill them before packing.")

    # Depth to disparity, then to [0, 1]
    if kind == "depth":
        depth_map = 1.0 / depth_map.astype(np.float64)
    low, high = float(depth_map.min()), float(depth_map.max())
    scale = 1.0 / (high - low) if high > low else 0.0
    return ((depth_map.astype(np.float64) - low) * scale).astype(np.float32)
