"""F-number and focal length from a photograph's EXIF."""

import io
import math
import warnings
from typing import Any

from PIL import Image

EXIF_IFD = 0x8769
F_NUMBER = 0x829D
FOCAL_LENGTH = 0x920A
FOCAL_LENGTH_IN_35MM_FILM = 0xA405


def exif_of_photograph(data: bytes) -> dict[str, object]:
    """Return `f_number`, `focal_length_mm` and `focal_length_of`, as far as the file has them.

    The focal length is FocalLengthIn35mmFilm, for a sensor 36 mm wide (`optics.pixel_pitch_mm`), or
    else FocalLength, the physical one; `focal_length_of` says which: `35mm film` or `lens`. Values
    that are no number above 0 (cameras write 0 for unknown) count as absent, and so does EXIF that
    cannot be read.

    Args:
        data: A JPEG, PNG or WebP file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about damaged tags
            with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
                tags: dict[int, Any] = image.getexif().get_ifd(EXIF_IFD)
    except Exception:  # of damaged EXIF Pillow raises nearly anything; the decoder checks the image
        return {}
    found: dict[str, object] = {}
    if (f_number := _positive(tags.get(F_NUMBER))) is not None:
        found["f_number"] = f_number
    for tag, of in ((FOCAL_LENGTH_IN_35MM_FILM, "35mm film"), (FOCAL_LENGTH, "lens")):
        if "focal_length_mm" not in found and (millimetres := _positive(tags.get(tag))) is not None:
            found |= {"focal_length_mm": millimetres, "focal_length_of": of}
    return found


# Return an EXIF number, rounded to EXIF's precision, or None.
def _positive(value: Any) -> float | None:
    try:
        number = round(float(value), 4)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None
