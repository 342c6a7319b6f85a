"""A photograph in and out of a file with all that belongs to it: EXIF, color profile, bit depth.

Pixels are upright: EXIF's orientation is applied and then set to 1. Values stay in the file's own
color space (see `tone_curve.py`); CMYK and profiles by look-up tables become sRGB. Formats: JPEG,
PNG, WebP and TIFF, and HEIC where pillow-heif is installed; 16 bits a channel through OpenCV (PNG,
TIFF) and tifffile (TIFF).
"""

import io
import struct
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dofsuite.errors import UserError
from dofsuite.exif import EXIF_IFD, ORIENTATION
from dofsuite.files import read_bytes
from dofsuite.images import one_line, pixel_limit
from dofsuite.photography.photo import Photo, converted_to_srgb
from dofsuite.photography.photo_encoding import FORMATS
from dofsuite.photography.tone_curve import tone_curves

# Pillow's names; pillow-heif registers HEIF. An MPO is a JPEG of several pictures.
DECODERS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "HEIF", "AVIF")
HEIC_EXTENSIONS = (".heic", ".heif")
READABLE = (*FORMATS, *HEIC_EXTENSIONS)
GPS_IFD = 0x8825
SIZES_IN_EXIF_IFD = (0xA002, 0xA003)  # width and height before the orientation was applied
BITS_PER_SAMPLE = 258
# EXIF tags of the stored pixels: size, compression, strips, orientation, ...
OF_THE_STORED_PIXELS = (
    *(0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x0111, 0x0112, 0x0115, 0x0116, 0x0117, 0x011C),
    *(0x013D, 0x0142, 0x0143, 0x0144, 0x0145, 0x0152, 0x0153, 0x8773),
)


def read_photo(path: Path) -> Photo:
    """Read a photograph with its metadata.

    Raises:
        UserError: The file cannot be read, is no image of a format above, is damaged, has more than
            `max_pixels`, or needs a package that is not installed.
    """
    data = read_bytes(path)
    if data[4:8] == b"ftyp":
        _register_heif(path)
    # The decoder's many errors become one sentence each.
    try:
        with warnings.catch_warnings(), pixel_limit(str(path)):
            warnings.simplefilter("ignore", UserWarning)  # remarks about damaged EXIF tags
            Image.init()
            decoders = [name for name in DECODERS if name in Image.OPEN]
            with Image.open(io.BytesIO(data), formats=decoders) as image:
                return _photo_of(image, data, path)
    except UserError:
        raise
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path}: it is not a JPEG, PNG, WebP, TIFF or HEIC image.") from error
    except Exception as error:  # of damaged files Pillow raises nearly anything
        raise UserError(f"{path}: the image is damaged: {one_line(error)}.") from error


def _photo_of(image: Image.Image, data: bytes, path: Path) -> Photo:
    # What the file says besides pixels
    exif = image.getexif()
    _load_folders(exif)
    icc_profile: bytes | None = image.info.get("icc_profile") or None
    notes: list[str] = []
    if (count := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
        notes.append(f"it holds {count} pictures, of which the first was taken")
    # Pixels [h, w, 1 to 4] with 8 or 16 bits
    if _has_16_bits(image, data):
        orientation = exif.get(ORIENTATION, 1)
        values = _decode_16_bits(data, path)
    else:
        image.load()  # which turns a TIFF upright, and takes the tag away
        orientation = exif.get(ORIENTATION, 1)
        image, icc_profile = _simple_mode(image, icc_profile, notes, path)
        values = np.array(image)
    values = _upright(values if values.ndim == 3 else values[:, :, None], orientation)
    # To float [c, h, w]: color or gray as three channels, and opacity
    bits = 8 * values.dtype.itemsize
    planes = torch.empty(values.shape[2], *values.shape[:2])
    for plane, stored in zip(planes.numpy(), values.transpose(2, 0, 1), strict=True):
        plane[:] = stored
    planes /= 2**bits - 1
    is_gray, has_alpha = len(planes) < 3, len(planes) in (2, 4)
    color = planes[:-1] if has_alpha else planes
    alpha = planes[-1:].contiguous() if has_alpha and bool((planes[-1] < 1).any()) else None
    color = color.expand(3, -1, -1).contiguous()
    return Photo(color, alpha, bits, is_gray, icc_profile, _kept_exif(exif, notes), tuple(notes))


def _simple_mode(
    image: Image.Image, icc_profile: bytes | None, notes: list[str], path: Path
) -> tuple[Image.Image, bytes | None]:
    """Bring an 8-bit image to L, LA, RGB or RGBA, with the color profile that then holds."""
    if image.mode == "I;16":
        return image, icc_profile
    if image.mode in ("F", "I"):
        raise UserError(f"{path}: it holds measured values, not colors; give it as --depth.")
    if "transparency" in image.info or image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        image = image.convert("RGB")
    # By the embedded profile where its tone curves cannot be used.
    if image.mode == "CMYK":
        notes.append("CMYK became sRGB")
        return converted_to_srgb(image, icc_profile), None
    if icc_profile and tone_curves(icc_profile) is None:
        notes.append("its color profile has no tone curve, so its colors became sRGB")
        if image.mode == "RGB":
            image = converted_to_srgb(image, icc_profile)
        return image, None
    return image, icc_profile


def _has_16_bits(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow would drop bits: 16-bit gray is the only 16-bit image that it keeps."""
    if image.format == "PNG":
        bits, color_type = struct.unpack_from(">BB", data, 24)
        return bool(bits == 16 and color_type != 0)
    if image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (8,))[0]  # type: ignore[attr-defined]
        return bool(bits == 16 and image.mode != "I;16")
    return False


def _decode_16_bits(data: bytes, path: Path) -> np.ndarray:
    try:
        import cv2
    except ImportError:
        raise UserError(
            f"{path}: 16 bits a channel need OpenCV: pip install opencv-python-headless, or store "
            "the photograph with 8 bits."
        ) from None
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise UserError(f"{path}: OpenCV cannot read its 16-bit pixels; store it as a 16-bit PNG.")
    if values.ndim == 3 and values.shape[2] >= 3:
        values[..., :3] = values[..., 2::-1].copy()  # OpenCV's blue, green, red
    return np.asarray(values)


def _register_heif(path: Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        if path.suffix.lower() in HEIC_EXTENSIONS:
            raise UserError(
                f"{path}: HEIC needs a package: pip install pillow-heif, or export it as JPEG."
            ) from None
    else:
        register_heif_opener()


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror stored pixels [h, w, c] as EXIF's orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _load_folders(exif: Image.Exif) -> None:
    """Read EXIF's and GPS' tags now: loading a TIFF's pixels closes the file."""
    for folder in (EXIF_IFD, GPS_IFD):
        with suppress(Exception):  # of damaged tags Pillow raises nearly anything
            if folder in exif:
                exif.get_ifd(folder)


def _kept_exif(exif: Image.Exif, notes: list[str]) -> bytes:
    """EXIF without what describes the stored pixels (the thumbnail is one) or cannot be written."""
    if not len(exif):
        return b""
    for tag in OF_THE_STORED_PIXELS:
        exif.pop(tag, None)
    for tag in SIZES_IN_EXIF_IFD:
        exif.get_ifd(EXIF_IFD).pop(tag, None)
    try:
        return exif.tobytes()
    except Exception:  # of damaged tags Pillow raises nearly anything
        notes.append("its EXIF is damaged and was not kept")
        return b""
