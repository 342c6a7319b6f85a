"""What a photograph's EXIF says about its camera: f-number, focal length, sensor, focus distance.

Blur in pixels depends on the physical focal length and on the sensor's width. EXIF has the first;
the second follows from the 35-mm equivalent (36 mm x focal length / equivalent) or from the focal
plane's resolution.
"""

import math
from typing import Any, NamedTuple

from PIL import Image

EXIF_IFD = 0x8769
F_NUMBER = 0x829D
SUBJECT_DISTANCE_M = 0x9206
FOCAL_LENGTH_MM = 0x920A
FOCAL_PLANE_X_RESOLUTION = 0xA20E
FOCAL_PLANE_RESOLUTION_UNIT = 0xA210
FOCAL_LENGTH_IN_35MM_FILM = 0xA405
# Millimeters of the units in which focal-plane resolutions are given; EXIF's default is the inch.
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
FULL_FRAME_WIDTH_MM = 36.0
# Wider or narrower sensors than these are mistakes of the tag, not cameras.
PLAUSIBLE_WIDTH_MM = (2.0, 120.0)


class CameraExif(NamedTuple):
    """Numbers above 0, or None where EXIF has none."""

    f_number: float | None = None
    focal_length_mm: float | None = None
    """The physical one."""
    sensor_width_mm: float | None = None
    """Of the frame's long side."""
    focus_m: float | None = None


def camera_exif(exif: Image.Exif, long_side_px: int) -> CameraExif:
    """Read a photograph's camera; damaged EXIF counts as absent.

    Args:
        exif: As `PIL.Image.Image.getexif` returns it.
        long_side_px: Of the photograph, for a sensor width from the focal plane's resolution.
    """
    try:
        tags: dict[int, Any] = exif.get_ifd(EXIF_IFD)
    except Exception:  # of damaged EXIF Pillow raises nearly anything
        return CameraExif()
    focal_length_mm = positive(tags.get(FOCAL_LENGTH_MM))
    equivalent_mm = positive(tags.get(FOCAL_LENGTH_IN_35MM_FILM))
    per_unit = positive(tags.get(FOCAL_PLANE_X_RESOLUTION))
    # The sensor: by the crop factor, else by its pixel pitch
    sensor_width_mm = None
    if focal_length_mm and equivalent_mm:
        sensor_width_mm = FULL_FRAME_WIDTH_MM * focal_length_mm / equivalent_mm
    elif per_unit:
        unit_mm = UNIT_MM.get(tags.get(FOCAL_PLANE_RESOLUTION_UNIT, 2), 25.4)
        sensor_width_mm = long_side_px / per_unit * unit_mm
    elif equivalent_mm:
        focal_length_mm, sensor_width_mm = equivalent_mm, FULL_FRAME_WIDTH_MM
    low, high = PLAUSIBLE_WIDTH_MM
    if sensor_width_mm is not None and not low <= sensor_width_mm <= high:
        sensor_width_mm = None
    return CameraExif(
        positive(tags.get(F_NUMBER)),
        focal_length_mm,
        sensor_width_mm,
        positive(tags.get(SUBJECT_DISTANCE_M)),
    )


def positive(value: Any) -> float | None:
    """Return an EXIF number above 0, rounded to EXIF's precision; cameras write 0 for unknown."""
    try:
        number = round(float(value), 4)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None
