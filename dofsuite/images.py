"""Reading, quantizing, resizing and writing images: one function for each, for the whole package.

Image files become float32 display values in [0, 1], upright (EXIF orientation applied).
Transparency is composited over white, CMYK is converted by Pillow's plain formula, gray gets three
equal channels, 16-bit gray keeps its 16 bits (*ours*; Pillow's own conversion of 16-bit gray clips
it to white). Only JPEG, PNG and WebP are accepted; images of more than `max_pixels()`, and
truncated ones, are errors. Color profiles are not applied: values are taken as sRGB (*ours*, as
image models' own training data were read).

Tensors are channels first, display values in [0, 1]. torch is imported when it is needed: packing
works without it.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from dofsuite.errors import UserError
from dofsuite.files import read_bytes

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP")
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
MIN_SIDE_PX = 8
# Of the largest image that is decoded, in all of the package, where the variable is not set: a file
# of a few kB may say any size.
MAX_MEGAPIXELS, LIMIT_VARIABLE = 64.0, "DOFSUITE_MAX_MEGAPIXELS"
STRIP_PIXELS = 2**22
MARKER_COLOR = (1.0, 0.2, 0.1)


def read_image(path: Path) -> Tensor:
    """Read a JPEG, PNG or WebP file as display values `[3, h, w]`.

    Raises:
        UserError: The file cannot be read or decoded, or is smaller than 8 px on a side.
    """
    import torch

    values = decode_image(read_bytes(path), str(path))
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()  # [h, w, 3] -> [3, h, w]


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Return an image file's display values, float32 `[h, w, 3]`; errors name the file `name`.

    Raises:
        UserError: The file is no JPEG, PNG or WebP, is truncated, too large, or smaller than 8 px
            on a side.
    """
    image = load_upright(data, name)
    if min(image.size) < MIN_SIDE_PX:
        found = f"{image.width}x{image.height} px"
        raise UserError(f"{name}: {found} are too few: an image needs {MIN_SIDE_PX} px a side.")
    return _values_of_upright(image)


def load_upright(data: bytes, name: str) -> Image.Image:
    """Load an image file completely and apply its EXIF orientation.

    Raises:
        UserError: The file is no JPEG, PNG or WebP, is truncated, or too large.
    """
    try:
        with warnings.catch_warnings(), pixel_limit(name):
            warnings.simplefilter("ignore", UserWarning)  # remarks about damaged EXIF tags
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                image.load()
                return ImageOps.exif_transpose(image)
    except UserError:
        raise
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{name}: it is not a JPEG, PNG or WebP image.") from error
    except Exception as error:  # of damaged files Pillow raises nearly anything
        raise UserError(f"{name}: the image is damaged: {one_line(error)}.") from error


def max_pixels() -> int:
    """Return the most pixels of an image that is decoded: `DOFSUITE_MAX_MEGAPIXELS`, or 64 million.

    Raises:
        UserError: The environment variable is no number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(MAX_MEGAPIXELS)
    try:
        megapixels = float(text)
        if not 0 < megapixels < math.inf:
            raise ValueError
    except ValueError:
        raise UserError(f"{LIMIT_VARIABLE}: a number above 0 is expected, not {text!r}.") from None
    return int(megapixels * 1e6)


def check_pixels(pixels: int, name: str) -> None:
    """Check that an image or a map has no more pixels than `max_pixels`.

    Raises:
        UserError: It has; errors name the file `name`.
    """
    most = max_pixels()
    if pixels > most:
        raise UserError(
            f"{name}: it has too many pixels, {pixels / 1e6:.4g} million where {most / 1e6:g} may "
            f"be decoded: reduce it, or raise {LIMIT_VARIABLE}."
        )


@contextmanager
def pixel_limit(name: str) -> Iterator[None]:
    """Let Pillow open images of up to `max_pixels` and no more, whatever its own limit is.

    Raises:
        UserError: An image is larger; errors name the file `name`.
    """
    try:
        # Pillow warns above its limit and raises above twice that.
        with _pillow_limit(max_pixels() // 2):
            yield
    except Image.DecompressionBombError as error:
        check_pixels(int(re.findall(r"\d+", str(error))[0]), name)
        raise


@contextmanager
def header_only() -> Iterator[None]:
    """Let Pillow open images of any size, of which nothing is decoded."""
    with _pillow_limit(None):
        yield


@contextmanager
def _pillow_limit(pixels: int | None) -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def image_values(image: Image.Image) -> np.ndarray:
    """Return a PIL image's display values, float32 `[h, w, 3]`, upright, as `decode_image` does."""
    return _values_of_upright(ImageOps.exif_transpose(image))


# By strips of rows: what one is copied to on its way to float32 is then small.
def _values_of_upright(image: Image.Image) -> np.ndarray:
    rows = max(1, STRIP_PIXELS // image.width)
    if image.height <= rows:
        return _values_of_strip(image)
    values = np.empty((image.height, image.width, 3), np.float32)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        values[top : top + rows] = _values_of_strip(strip)
    return values


def _values_of_strip(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit gray: `I;16`, in older versions of Pillow `I`
        values = np.asarray(image).astype(np.float32) / np.float32(65535)
        return np.repeat(values[:, :, None], 3, axis=2)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)


def levels_8bit(image: Tensor) -> Tensor:
    """Round display values to the levels 0..255 of 8 bits, as float32."""
    return image.detach().float().clamp(0, 1).mul(255).round()


def quantize_8bit(image: Tensor) -> Tensor:
    """Round display values to the 8 bits of a PNG, on the CPU; what is saved and scored."""
    return levels_8bit(image).cpu() / 255


def to_uint8(image: Tensor) -> Tensor:
    """Return display values as uint8 of the same shape and device; NaN becomes 0."""
    import torch

    return levels_8bit(image.nan_to_num(0.0)).to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    """Return `[3, h, w]` as an RGB image, `[1, h, w]` as a gray one."""
    levels = to_uint8(image).permute(1, 2, 0).contiguous().cpu().numpy()  # [c, h, w] -> [h, w, c]
    return Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0])


def encode_png(image: Tensor | np.ndarray | Image.Image, **options: object) -> bytes:
    """Return a lossless PNG file's bytes.

    Args:
        image: Display values `[3, h, w]` or `[1, h, w]`, stored with 8 bits; or stored values as
            they are: an array of uint8 `[h, w(, 3)]` or uint16 `[h, w]`, or a PIL image.
        options: Pillow's, such as `pnginfo`.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    stored = image if isinstance(image, Image.Image) else to_pil(image)
    stored.save(file, "PNG", **{"compress_level": 4, **options})
    return file.getvalue()


def encode_jpeg(image: Tensor, quality: int = 95) -> bytes:
    """Return a JPEG file's bytes of display values `[3, h, w]`; colors at full size."""
    file = io.BytesIO()
    to_pil(image).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def thumbnail(image: Tensor, max_px: int) -> Tensor:
    """Reduce `[c, h, w]` with antialiasing to `max_px` on the long side; smaller images stay."""
    height, width = image.shape[-2:]
    scale = max_px / max(height, width)
    if scale >= 1:
        return image
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def resize(image: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    """Resize `[c, h, w]` or `[b, c, h, w]` with antialiasing, clamped to [0, 1]."""
    from torch.nn.functional import interpolate

    if image.shape[-2:] == (height, width):
        return image
    if image.ndim == 3:
        return resize(image[None], height, width, mode)[0]
    return interpolate(image, (height, width), mode=mode, antialias=True).clamp_(0, 1)


def center_crop(image: Tensor, height: int, width: int) -> Tensor:
    """Crop the center `[..., height, width]`; odd remainders fall to bottom and right."""
    top = (image.shape[-2] - height) // 2
    left = (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width]


def minmax_normalize(values: Tensor, min_range: float = 1e-12) -> Tensor:
    """Map each item of `[b, ...]` from [its least, its largest value] to [0, 1], differentiably.

    Args:
        values: Any real numbers; an item of one value becomes 0.
        min_range: A smaller difference of largest and least value is divided by as if it were this.
    """
    dims = tuple(range(1, values.ndim))
    low, high = values.amin(dims, keepdim=True), values.amax(dims, keepdim=True)
    return (values - low) / (high - low).clamp(min=min_range)


def draw_marker(image: Tensor, point: Tensor) -> Tensor:
    """Return a copy of `[3, h, w]` with a small cross at `point` `[2]`, (x, y) as fractions."""
    image = image.clone()
    height, width = image.shape[-2:]
    x, y = int(point[0].item() * width), int(point[1].item() * height)
    arm = max(2, width // 24)
    color = image.new_tensor(MARKER_COLOR)[:, None, None]
    image[:, y : y + 1, max(0, x - arm) : x + arm + 1] = color
    image[:, max(0, y - arm) : y + arm + 1, x : x + 1] = color
    return image


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, without its final period."""
    return " ".join(str(error).split()).rstrip(".")
