"""What a photograph's EXIF says about its camera: f-number, focal length, sensor, focus distance.

Blur in pixels depends on the focal length and f-number of the real lens and on the width of the
real sensor. EXIF has the first two; the width follows from the pixel pitch (FocalPlaneXResolution)
or from the 35-mm equivalent focal length, which cameras make from the diagonal (CIPA DCG-001):
diagonal = 43.27 mm x focal length / equivalent.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL import Image

EXIF_IFD = 0x8769
ORIENTATION = 0x0112
F_NUMBER = 0x829D
SUBJECT_DISTANCE_M = 0x9206
FOCAL_LENGTH_MM = 0x920A
PIXEL_SIZES = (0xA002, 0xA003)
FOCAL_PLANE_X_RESOLUTION = 0xA20E
FOCAL_PLANE_RESOLUTION_UNIT = 0xA210
FOCAL_LENGTH_IN_35MM_FILM = 0xA405
# Millimeters of the units in which focal-plane resolutions are given; EXIF's default is the inch.
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
FULL_FRAME_WIDTH_MM = 36.0
FULL_FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)
# Wider or narrower sensors than these are mistakes of the tag, not cameras.
PLAUSIBLE_WIDTH_MM = (2.0, 120.0)
# Diagonal -> width of the formats that have a name: medium format, full frame, APS-H, APS-C (and
# Canon's), Four Thirds, 1 inch.
FORMATS_MM = {54.8: 43.8, 43.27: 36.0, 34.5: 28.7, 28.2: 23.5, 26.8: 22.3, 21.6: 17.3, 15.9: 13.2}
# Cameras write a nominal crop factor (1.5 for 1.53) times the focal length, as a whole number.
NOMINAL_ERROR = 0.025
# A diagonal from a whole number this uncertain, of no known format, tells no width.
LARGEST_ROUNDING = 0.03
# Two readings of one width that differ by more are of a photograph that was reduced.
AGREEMENT = 0.08
# Long over short side of whole frames; others were cut (*ours*: 4:3 to 16:9).
WHOLE_FRAME = (1.3, 1.8)
# Sensors with a smaller diagonal are 4:3, whatever the photograph.
LARGEST_PHONE_DIAGONAL_MM = 14.0


class CameraExif(NamedTuple):
    """Numbers above 0, or None where EXIF has none."""

    f_number: float | None = None
    focal_length_mm: float | None = None
    """Of the real lens."""
    sensor_width_mm: float | None = None
    """Of the real sensor, along the photograph's long side."""
    focus_m: float | None = None
    equivalent_mm: float | None = None
    """The 35-mm equivalent focal length."""

    @property
    def lacks(self) -> str | None:
        """What a lens needs and EXIF does not tell; None where all is there."""
        needed = {
            "f-number": self.f_number,
            "focal length": self.focal_length_mm,
            "sensor width": self.sensor_width_mm,
        }
        return next((name for name, value in needed.items() if value is None), None)


def camera_exif(exif: Image.Exif, size_px: tuple[int, int]) -> CameraExif:
    """Read a photograph's camera; damaged EXIF counts as absent.

    Args:
        exif: As `PIL.Image.Image.getexif` returns it.
        size_px: Sides of the photograph, in any order.
    """
    try:
        tags: dict[int, Any] = exif.get_ifd(EXIF_IFD)
    except Exception:  # of damaged EXIF Pillow raises nearly anything
        return CameraExif()
    return CameraExif(
        positive(tags.get(F_NUMBER)),
        positive(tags.get(FOCAL_LENGTH_MM)),
        sensor_width_of(tags, size_px),
        positive(tags.get(SUBJECT_DISTANCE_M)),
        positive(tags.get(FOCAL_LENGTH_IN_35MM_FILM)),
    )


def sensor_width_of(tags: Mapping[int, Any], size_px: tuple[int, int]) -> float | None:
    """Return the sensor's width along the long side in mm; None where EXIF does not tell it.

    The pixel pitch is exact, but stays behind when an editor reduces the photograph; so where there
    is an equivalent focal length too, the pitch counts only if both agree (*ours*).
    """
    by_pitch = width_by_pitch(tags, size_px)
    by_crop = width_by_crop_factor(tags, size_px)
    if by_pitch is not None and by_crop is not None:
        is_same = abs(by_pitch / by_crop - 1) <= AGREEMENT
        width_mm: float | None = by_pitch if is_same else by_crop
    else:
        width_mm = by_pitch if by_crop is None else by_crop
    low, high = PLAUSIBLE_WIDTH_MM
    return width_mm if width_mm is not None and low <= width_mm <= high else None


def width_by_pitch(tags: Mapping[int, Any], size_px: tuple[int, int]) -> float | None:
    """Long side in pixels x pixel pitch; None without a pitch, or where the pixels are not its."""
    per_unit = positive(tags.get(FOCAL_PLANE_X_RESOLUTION))
    if per_unit is None:
        return None
    pitch_mm = UNIT_MM.get(tags.get(FOCAL_PLANE_RESOLUTION_UNIT, 2), 25.4) / per_unit
    # The camera's own pixels, where EXIF still has them and the photograph was reduced as a whole.
    taken_px = [positive(tags.get(tag)) for tag in PIXEL_SIZES]
    width_px, height_px = taken_px
    if width_px is None or height_px is None or {width_px, height_px} == set(size_px):
        return max(size_px) * pitch_mm
    same_shape = abs(_ratio((width_px, height_px)) / _ratio(size_px) - 1) < 0.01
    return max(width_px, height_px) * pitch_mm if same_shape else None


def width_by_crop_factor(tags: Mapping[int, Any], size_px: tuple[int, int]) -> float | None:
    """Width of the sensor whose diagonal is 43.27 mm x focal length / equivalent.

    A known format within the tag's rounding is taken for it (*ours*). None without both tags, for a
    photograph that was cut, or where a whole number of millimeters is too coarse.
    """
    focal_length_mm = positive(tags.get(FOCAL_LENGTH_MM))
    equivalent_mm = positive(tags.get(FOCAL_LENGTH_IN_35MM_FILM))
    least, most = WHOLE_FRAME
    ratio = _ratio(size_px)
    if focal_length_mm is None or equivalent_mm is None or not least <= ratio <= most:
        return None
    # A format that has a name.
    diagonal_mm = FULL_FRAME_DIAGONAL_MM * focal_length_mm / equivalent_mm
    rounding = 0.5 / equivalent_mm
    nearest_mm = min(FORMATS_MM, key=lambda each: abs(each / diagonal_mm - 1))
    if abs(nearest_mm / diagonal_mm - 1) <= rounding + NOMINAL_ERROR:
        return FORMATS_MM[nearest_mm]
    # Another, 4:3 or 3:2.
    if rounding > LARGEST_ROUNDING:
        return None
    is_4_to_3 = diagonal_mm < LARGEST_PHONE_DIAGONAL_MM or ratio < math.sqrt(4 / 3 * 3 / 2)
    long, short = (4, 3) if is_4_to_3 else (3, 2)
    return diagonal_mm * long / math.hypot(long, short)


def positive(value: Any) -> float | None:
    """Return an EXIF number above 0, rounded to EXIF's precision; cameras write 0 for unknown."""
    try:
        number = round(float(value), 4)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None


def _ratio(sides: tuple[float, float]) -> float:
    return max(sides) / min(sides)
