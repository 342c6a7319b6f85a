"""F-number and focal length from a photograph's EXIF."""

import io
import warnings
from typing import Any

from PIL import Image

from dofsuite.exif import (
    EXIF_IFD,
    F_NUMBER,
    FOCAL_LENGTH_IN_35MM_FILM,
    FOCAL_LENGTH_MM,
    positive,
)


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
    if (f_number := positive(tags.get(F_NUMBER))) is not None:
        found["f_number"] = f_number
    for tag, of in ((FOCAL_LENGTH_IN_35MM_FILM, "35mm film"), (FOCAL_LENGTH_MM, "lens")):
        if "focal_length_mm" not in found and (millimeters := positive(tags.get(tag))) is not None:
            found |= {"focal_length_mm": millimeters, "focal_length_of": of}
    return found
