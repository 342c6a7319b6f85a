"""What a photograph's file says before a pixel is decoded: size, camera, exposure, time."""

import io
import warnings
from datetime import datetime
from typing import Any

from PIL import Image

from dofsuite.errors import UserError
from dofsuite.exif import EXIF_IFD, ORIENTATION, camera_exif
from dofsuite.images import FORMATS, header_only, one_line

MAKE, MODEL = 0x010F, 0x0110
EXPOSURE_TIME, TAKEN = 0x829A, 0x9003
BODY_SERIAL = 0xA431
# EXIF lies in a JPEG's first segments, at most 64 kB each.
HEADER_BYTES = 256 * 1024


def read_header(data: bytes, name: str) -> dict[str, Any]:
    """Read the beginning of a JPEG, PNG or WebP file.

    Args:
        data: At least everything before the pixels; PNG and WebP may have EXIF after them.
        name: The file, for errors.

    Returns:
        `width` and `height` in px as stored, and what EXIF has of: `f_number`, `focal_length_mm`,
        `sensor_width_mm`, `equivalent_mm`, `exposure_s`, `make`, `model`, `serial`, `taken_s`
        (seconds of the camera's clock); `has_exif` and `no_optics` (what a lens lacks).

    Raises:
        UserError: It is no such image.
    """
    try:
        with warnings.catch_warnings(), header_only():
            warnings.simplefilter("ignore")  # remarks about damaged tags
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                exif = _exif_of(image)
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{name}: it is not a JPEG, PNG or WebP image.") from error
    except Exception as error:  # of damaged files Pillow raises nearly anything
        raise UserError(f"{name}: the image is damaged: {one_line(error)}.") from error
    return {"width": width, "height": height, **exif}


# Damaged EXIF counts as absent.
def _exif_of(image: Image.Image) -> dict[str, Any]:
    try:
        exif = image.getexif()
        tags: dict[int, Any] = exif.get_ifd(EXIF_IFD)
        camera = camera_exif(exif, image.size)
        # Pillow takes the orientation from XMP too.
        has_exif = bool(tags) or bool(set(exif) - {ORIENTATION})
    except Exception:  # of damaged EXIF Pillow raises nearly anything
        return {"has_exif": False}
    found = {
        "f_number": camera.f_number,
        "focal_length_mm": camera.focal_length_mm,
        "sensor_width_mm": camera.sensor_width_mm,
        "equivalent_mm": camera.equivalent_mm,
        "exposure_s": _seconds(tags.get(EXPOSURE_TIME)),
        "make": _text(exif.get(MAKE)),
        "model": _text(exif.get(MODEL)),
        "serial": _text(tags.get(BODY_SERIAL)),
        "taken_s": _clock(tags.get(TAKEN)),
        "no_optics": camera.lacks,
    }
    return {"has_exif": has_exif, **{key: v for key, v in found.items() if v not in (None, "")}}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return " ".join(str(value or "").replace("\0", " ").split())[:80]


# Not rounded to EXIF's four digits: 1/20,000 s is no unknown exposure.
def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return float(f"{seconds:.6g}") if 0 < seconds < float("inf") else None


def _clock(value: Any) -> int | None:
    try:
        taken = datetime.strptime(_text(value), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return int((taken - datetime(1970, 1, 1)).total_seconds())
