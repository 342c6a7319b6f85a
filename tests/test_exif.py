"""The camera in EXIF, against the arithmetic of published cameras."""

import pytest
import torch
from PIL import Image

from dofsuite.exif import CameraExif, camera_exif
from dofsuite.text2image import Exif
from dofsuite.text2image.camera.lens import Lens


def exif_of(**tags: object) -> Image.Exif:
    numbers = {
        "f_number": 0x829D,
        "focus_m": 0x9206,
        "focal_length": 0x920A,
        "in_35mm": 0xA405,
        "resolution": 0xA20E,
        "unit": 0xA210,
        "width": 0xA002,
        "height": 0xA003,
    }
    exif = Image.Exif()
    for name, value in tags.items():
        exif.get_ifd(0x8769)[numbers[name]] = value
    return exif


# Published cameras: width and height of the sensor and of its photographs, focal length, f-number,
# the 35-mm equivalent that the camera writes, and whether it writes its pixel pitch.
CAMERAS = {
    "full frame": ((36.0, 24.0), (6000, 4000), 50.0, 1.8, 50),
    "APS-C (Sony)": ((23.5, 15.6), (6000, 4000), 35.0, 2.8, 52),
    "APS-C, rounded crop factor": ((23.5, 15.7), (6000, 4000), 18.0, 3.5, 27),
    "APS-C (Nikon)": ((23.6, 15.7), (4928, 3264), 35.0, 1.8, 52),
    "APS-C (Canon)": ((22.3, 14.9), (6000, 4000), 50.0, 1.8, 80),
    "APS-C (Canon, older)": ((22.2, 14.8), (3456, 2304), 24.0, 2.8, 38),
    "Four Thirds": ((17.3, 13.0), (5184, 3888), 25.0, 1.8, 50),
    "Four Thirds, wide": ((17.3, 13.0), (5184, 3888), 7.0, 2.8, 14),
    "1 inch": ((13.2, 8.8), (5472, 3648), 10.4, 2.8, 28),
    "phone": ((9.8, 7.35), (8064, 6048), 6.765, 1.78, 24),
    "phone, older": ((4.8, 3.6), (4032, 3024), 4.0, 1.8, 29),
    "phone, upright": ((9.8, 7.35), (6048, 8064), 6.765, 1.78, 24),
}


def blur_px(focal_mm, f_number, width_mm, long_side_px):
    """Thin lens in closed form, focus 2 m, background 20 m: F^2 / (N (S - F)) (1 - S / Z) / 2."""
    diameter_mm = focal_mm**2 / (f_number * (2000 - focal_mm)) * (1 - 2000 / 20000)
    return diameter_mm / 2 / (width_mm / long_side_px)


@pytest.mark.parametrize("name", CAMERAS)
def test_blur_is_the_thin_lens_s_on_the_real_sensor(name):
    """From the two focal lengths, from the pixel pitch, and from both."""
    (width_mm, _), size_px, focal_mm, f_number, equivalent_mm = CAMERAS[name]
    true_px = blur_px(focal_mm, f_number, width_mm, max(size_px))
    lengths = {"f_number": f_number, "focal_length": focal_mm}
    by_crop = {**lengths, "in_35mm": equivalent_mm}
    pitch = {"resolution": max(size_px) / width_mm * 25.4, "unit": 2}
    tolerance = 0.02 if equivalent_mm >= 24 else 0.03
    for tags, error in ((by_crop, tolerance), (lengths | pitch, 1e-4), (by_crop | pitch, 1e-4)):
        camera = camera_exif(exif_of(**tags), size_px)
        assert camera.lacks is None
        numbers = (camera.focal_length_mm, camera.f_number, camera.sensor_width_mm)
        assert blur_px(*numbers, max(size_px)) == pytest.approx(true_px, rel=error)
    assert camera_exif(exif_of(**lengths), size_px).lacks == "sensor width"


def test_a_lens_blurs_each_photograph_by_its_own_sensor():
    (widths_mm, sizes_px, focal_mm, f_numbers, _) = zip(*CAMERAS.values(), strict=True)
    long_sides = [float(max(size)) for size in sizes_px]
    one = torch.ones(len(widths_mm))
    radius_px = Lens(largest_radius_share=None).radius_px(
        torch.full((len(one), 1, 1, 1), 20.0),
        2.0 * one,
        1000.0 * one,
        Exif(torch.tensor(f_numbers), torch.tensor(focal_mm)),
        torch.tensor(long_sides),
        torch.tensor([width for width, _ in widths_mm]),
    )
    expected = [
        -blur_px(focal, number, width, side)
        for focal, number, (width, _), side in zip(
            focal_mm, f_numbers, widths_mm, long_sides, strict=True
        )
    ]
    assert radius_px.flatten().tolist() == pytest.approx(expected, rel=1e-4)


def test_networks_get_the_full_frame_camera_of_the_same_view_and_blur():
    exif = Exif(torch.tensor([1.8, 1.8]), torch.tensor([25.0, 25.0]))
    same, four_thirds = exif.on_full_frame(torch.tensor([torch.nan, 17.3])).stacked().tolist()
    assert same == pytest.approx([1.8, 25.0])
    assert four_thirds == pytest.approx([1.8 * 36 / 17.3, 25 * 36 / 17.3], rel=1e-5)


@pytest.mark.parametrize(
    ("tags", "size_px", "lacks"),
    [
        # A square cut from a photograph: its long side is not the sensor's
        ({"in_35mm": 75}, (4000, 4000), "sensor width"),
        # ... but a pixel pitch holds for any cut that was not reduced
        ({"resolution": 1600.0, "unit": 3}, (4000, 4000), None),
        # A phone's widest lens: 13 mm may be 12.5 to 13.5
        ({"focal_length": 1.54, "in_35mm": 13}, (4032, 3024), "sensor width"),
        # No width of a sensor
        ({"resolution": 72.0, "unit": 2}, (6000, 4000), "sensor width"),
        ({"focal_length": 0.0, "in_35mm": 50}, (6000, 4000), "focal length"),
        ({"f_number": 0.0, "in_35mm": 75}, (6000, 4000), "f-number"),
    ],
)
def test_what_exif_does_not_tell_is_said(tags, size_px, lacks):
    tags = {"f_number": 2.8, "focal_length": 50.0} | tags
    assert camera_exif(exif_of(**tags), size_px).lacks == lacks


def test_a_reduced_photograph_keeps_its_sensor():
    """The pitch is of the camera's pixels: EXIF still has their number, or the crop factor."""
    tags = {"f_number": 2.8, "focal_length": 50.0, "resolution": 6000 / 36.0 * 25.4, "unit": 2}
    taken = exif_of(**tags, width=6000, height=4000)
    assert camera_exif(taken, (1500, 1000)).sensor_width_mm == pytest.approx(36.0, rel=1e-3)
    assert camera_exif(exif_of(**tags, in_35mm=50), (1500, 1000)).sensor_width_mm == 36.0
    # Cut to another shape and perhaps reduced: not known
    assert camera_exif(taken, (1500, 1200)).sensor_width_mm is None


def test_damaged_numbers_are_absent():
    assert camera_exif(exif_of(focal_length=0.0, in_35mm=0), (6000, 4000)) == CameraExif()


def test_f_number_and_distance():
    camera = camera_exif(exif_of(f_number=1.8, focus_m=2.5), (4000, 3000))
    assert camera == CameraExif(f_number=1.8, focus_m=2.5)
