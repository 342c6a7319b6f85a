"""Decoders by file extension: images, depth maps, masks, JSON and text; nothing is unpickled."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from dofsuite.errors import UserError
from dofsuite.files import parse_json
from dofsuite.images import (
    IMAGE_EXTENSIONS,
    check_pixels,
    decode_image,
    load_upright,
    one_line,
)

# No disparity in any unit is so large; missing values often are.
LARGEST = 1e30
# A part of the range that 16 bits do not show, the share of a map that lies in it where a few
# values flatten the others, and how much these differ, of their largest (*ours*).
FLAT_PART = 1e-6
FLAT_SHARE, FLAT_VARIATION = 0.999, 1e-3


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
        UserError: The file is no array of numbers (pickled objects are not loaded), has another
            shape, more than `max_pixels`, or a number that float32 does not hold.
    """
    # An array of real numbers, and no pickle
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # of damaged files NumPy raises nearly anything
        raise UserError(f"{name}: it is not a plain array file: {one_line(error)}.") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise UserError(f"{name}: a depth map must be one array of real numbers.")
    # One map [h, w]
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values.squeeze(-1 if values.shape[-1] == 1 else 0)
    if values.ndim != 2:
        raise UserError(f"{name}: a depth map must have shape [h, w], not {list(values.shape)}.")
    check_pixels(values.size, name)
    # As float32, which holds any depth
    with np.errstate(over="ignore"):
        stored = values.astype(np.float32)
    if values.dtype.kind == "f" and (lost := np.isinf(stored) & np.isfinite(values)).any():
        raise UserError(
            f"{name}: {lost.sum()} values, such as {values[lost][0]:g}, are larger than float32 "
            "holds, which is no depth: fill them before packing."
        )
    return stored


def decode_json(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = parse_json(data)
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


def check_map_size(found: tuple[int, ...], size: tuple[int, int], name: str, what: str) -> None:
    """Check that a map has the size `(h, w)` of its image.

    Raises:
        UserError: It has another; errors name the file `name` and call the map `what`.
    """
    if tuple(found) != size:
        shown, needed = (f"{w}x{h}" for h, w in (found, size))
        raise UserError(
            f"{name}: the {what} is {shown} px and its image {needed} px: resize one of them."
        )


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
        UserError: The map has another size than the image, values that are no depth, none that is
            finite, or a few that flatten all others.
    """
    # Check size and values
    check_map_size(depth_map.shape, size, name, "depth map")
    bad, reason = (
        (~(depth_map > 0), "not a number or not above 0")
        if kind == "depth"
        else (~np.isfinite(depth_map), "not finite (NaN or infinite)")
    )
    if bad.any():
        raise UserError(f"{name}: {bad.sum()} values are {reason}: fill them before packing.")
    if kind == "disparity" and (large := np.abs(depth_map) > LARGEST).any():
        raise UserError(
            f"{name}: {large.sum()} values are beyond {LARGEST:g}, which is no disparity: fill "
            "them before packing."
        )
    if not np.isfinite(depth_map).any():
        raise UserError(f"{name}: all values are infinite: measure it, or leave the map out.")

    # Depth to disparity, then to [0, 1]
    disparity = depth_map.astype(np.float64)
    if kind == "depth":
        np.divide(1.0, disparity, out=disparity)
    low, high = float(disparity.min()), float(disparity.max())
    scale = 1.0 / (high - low) if high > low else 0.0
    disparity -= low
    disparity *= scale
    check_not_flattened(disparity, depth_map, name)
    return disparity.astype(np.float32)


def check_not_flattened(disparity: np.ndarray, depth_map: np.ndarray, name: str) -> None:
    """Check that no few values of a map take all of its range, so that the others become one.

    Args:
        disparity: Normalized, `[h, w]`.
        depth_map: As stored, `[h, w]`.
        name: The file, for errors.

    Raises:
        UserError: They do.
    """
    for is_flat in (disparity < FLAT_PART, disparity > 1 - FLAT_PART):
        others = is_flat.size - np.count_nonzero(is_flat)
        if not 0 < others <= max(1, (1 - FLAT_SHARE) * is_flat.size):
            continue
        # Of one value, as a wall has, they lose nothing; infinite ones are far in any case
        flat = depth_map[is_flat & np.isfinite(depth_map)].astype(np.float64)
        if flat.size and np.ptp(flat) > FLAT_VARIATION * np.abs(flat).max():
            outlier = depth_map[~is_flat].flat[0]
            raise UserError(
                f"{name}: {others} values, such as {outlier:g}, are so far from all others that "
                "these become one disparity: fill them before packing."
            )
