"""The camera in EXIF, against the arithmetic of published cameras."""

import pytest
from PIL import Image

from dofsuite.exif import CameraExif, camera_exif


def exif_of(**tags: object) -> Image.Exif:
    numbers = {
        "f_number": 0x829D,
        "focus_m": 0x9206,
        "focal_length": 0x920A,
        "in_35mm": 0xA405,
        "resolution": 0xA20E,
        "unit": 0xA210,
    }
    exif = Image.Exif()
    for name, value in tags.items():
        exif.get_ifd(0x8769)[numbers[name]] = value
    return exif


@pytest.mark.parametrize(
    ("tags", "focal_length_mm", "sensor_width_mm"),
    [
        # iPhone 15 Pro: 6.765 mm, 24 mm equivalent: a sensor about 10 mm wide
        ({"focal_length": 6.765, "in_35mm": 24}, 6.765, 10.1475),
        # APS-C, crop factor 1.5
        ({"focal_length": 50.0, "in_35mm": 75}, 50.0, 24.0),
        # By the pixel pitch: 5760 px at 4064 per inch, or at 1600 per cm, are 36 mm
        ({"focal_length": 85.0, "resolution": 4064.0, "unit": 2}, 85.0, 36.0),
        ({"focal_length": 85.0, "resolution": 1600.0, "unit": 3}, 85.0, 36.0),
        # The equivalent alone is a full-frame camera of the same view
        ({"in_35mm": 28}, 28.0, 36.0),
        # Neither: the sensor is unknown
        ({"focal_length": 50.0}, 50.0, None),
        # Nonsense widths are no sensors
        ({"focal_length": 50.0, "resolution": 72.0, "unit": 2}, 50.0, None),
        ({"focal_length": 0.0, "in_35mm": 0}, None, None),
        ({}, None, None),
    ],
)
def test_focal_length_and_sensor(tags, focal_length_mm, sensor_width_mm):
    camera = camera_exif(exif_of(**tags), 5760)
    assert camera.focal_length_mm == focal_length_mm
    assert camera.sensor_width_mm == (sensor_width_mm and pytest.approx(sensor_width_mm, rel=1e-3))


def test_f_number_and_distance():
    camera = camera_exif(exif_of(f_number=1.8, focus_m=2.5), 4000)
    assert camera == CameraExif(f_number=1.8, focus_m=2.5)
