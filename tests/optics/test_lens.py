import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dofsuite.optics import ThinLens, bokeh_radius_px, coc_radius_px, pixel_pitch_mm

PORTRAIT = ThinLens(focal_length_mm=50.0, f_number=2.0)


def depth_map(*depths_m: float) -> torch.Tensor:
    return torch.tensor(depths_m, dtype=torch.float64).reshape(1, 1, 1, -1)


def radii(lens=PORTRAIT, depth_m=None, focus_m=2.0, pitch_mm=0.01):
    return coc_radius_px(
        lens, depth_map(1.0, 2.0, 4.0, math.inf) if depth_m is None else depth_m, focus_m, pitch_mm
    )


def test_radius_is_half_the_textbook_circle_of_confusion():
    # c = A |S2 - S1| / S2 * F / (S1 - F), aperture A = F / N, all in mm
    aperture, focus, focal = 25.0, 2000.0, 50.0
    for depth_m in (0.7, 1.5, 3.0, 40.0):
        depth = 1000 * depth_m
        diameter_mm = aperture * abs(depth - focus) / depth * focal / (focus - focal)
        radius = radii(depth_m=depth_map(depth_m)).item()
        assert abs(radius) == pytest.approx(diameter_mm / 2 / 0.01, rel=1e-12)
        assert (radius > 0) == (depth_m < 2.0)


def test_plane_in_focus_is_sharp():
    assert radii()[0, 0, 0, 1] == 0


def test_infinite_depth_gives_the_finite_limit():
    at_infinity = radii()[0, 0, 0, 3].item()
    assert at_infinity == pytest.approx(-(50.0**2) / (2.0 * 1950.0) / 0.02)
    assert radii(depth_m=depth_map(1e12)).item() == pytest.approx(at_infinity)


def test_focus_at_infinity_blurs_by_the_aperture_s_image():
    # c = A F / Z, aperture A = F / N: at 1 m, 25 mm * 50 mm / 1000 mm; at infinity nothing
    radius = radii(depth_m=depth_map(1.0, 5.0, math.inf), focus_m=math.inf)
    assert radius.flatten().tolist() == pytest.approx([1.25 / 0.02, 0.25 / 0.02, 0.0], rel=1e-12)


def test_focus_at_the_hyperfocal_distance_blurs_infinity_as_much_as_half_that_distance():
    # H = F^2 / (N c) + F makes infinity's diameter c, and H / 2's very nearly as large
    diameter_mm = 0.03
    hyperfocal_m = (50.0**2 / (2.0 * diameter_mm) + 50.0) / 1000
    radius = radii(
        depth_m=depth_map(math.inf, hyperfocal_m / 2), focus_m=hyperfocal_m, pitch_mm=1.0
    )
    assert radius.flatten().tolist() == pytest.approx(
        [-diameter_mm / 2, diameter_mm / 2], rel=1e-12
    )


@pytest.mark.parametrize("focus_m", [1e37, math.inf])
def test_focus_beyond_what_float32_holds_in_mm_is_infinity(focus_m):
    depth_m = torch.tensor([1.0, 1e37, math.inf]).reshape(1, 1, 1, 3).requires_grad_()
    focus = torch.tensor([focus_m], requires_grad=True)
    radius = radii(depth_m=depth_m, focus_m=focus)
    assert radius.flatten().tolist() == pytest.approx([62.5, 0.0, 0.0], rel=1e-5, abs=1e-30)
    radius.sum().backward()
    assert torch.isfinite(depth_m.grad).all()
    assert torch.isfinite(focus.grad).all()


def test_doubling_the_aperture_doubles_the_blur():
    assert torch.allclose(radii(lens=ThinLens(50.0, 1.0)), 2 * radii())


def test_one_lens_per_item_equals_item_by_item():
    lens = ThinLens(torch.tensor([35.0, 85.0]), torch.tensor([1.4, 4.0]))
    depth_m = torch.rand(2, 1, 3, 5) * 5 + 0.5
    both = coc_radius_px(lens, depth_m, torch.tensor([1.0, 3.0]), torch.tensor([0.02, 0.03]))
    one = coc_radius_px(ThinLens(85.0, 4.0), depth_m[1:], 3.0, 0.03)
    assert torch.allclose(both[1:], one)


@pytest.mark.parametrize("focus_m", [0.05, 0.02, torch.tensor([0.04])])
def test_focus_inside_the_focal_length_is_rejected_by_name(focus_m):
    with pytest.raises(ValueError, match="focus_m"):
        radii(focus_m=focus_m)


@pytest.mark.parametrize("field", ["focal_length_mm", "f_number"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_lens_that_cannot_be_is_rejected_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        ThinLens(**{"focal_length_mm": 50.0, "f_number": 2.0, field: value})


def test_the_center_square_of_a_3_to_2_frame_spans_24_mm():
    assert 1000 * pixel_pitch_mm(1500) == pytest.approx(24.0)


def test_gradients_by_lens_and_depth_are_finite_at_infinity_and_in_focus():
    focal = torch.tensor([50.0], requires_grad=True)
    depth_m = depth_map(2.0, 1e30, math.inf).requires_grad_()
    coc_radius_px(ThinLens(focal, 2.0), depth_m, 2.0, 0.01).sum().backward()
    assert torch.isfinite(focal.grad).all()
    assert torch.isfinite(depth_m.grad).all()


def test_bokeh_level_is_pixels_per_unit_of_disparity_at_512():
    disparity = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    assert bokeh_radius_px(disparity, 0.25, 20, 512).flatten().tolist() == [-5.0, 0.0, 15.0]


def test_a_resize_scales_the_radius_and_a_crop_does_not():
    disparity = torch.rand(1, 1, 8, 8)
    whole = bokeh_radius_px(disparity, 0.5, 10, width_px=512)
    assert torch.equal(bokeh_radius_px(disparity, 0.5, 10, width_px=1024), 2 * whole)
    assert torch.equal(bokeh_radius_px(disparity[..., :4], 0.5, 10, width_px=512), whole[..., :4])


def test_levels_and_planes_per_item_and_half_precision_disparity():
    disparity = torch.rand(2, 1, 4, 4)
    both = bokeh_radius_px(
        disparity, torch.tensor([0.1, 0.9]), torch.tensor([5, 20]), torch.tensor([512.0, 64.0])
    )
    assert torch.allclose(both[1:], bokeh_radius_px(disparity[1:], 0.9, 20, 64))
    assert bokeh_radius_px(disparity.bfloat16(), 0.1, 5, 512).dtype == torch.float32


@pytest.mark.parametrize("device", ["meta", "fake"])
def test_without_values_the_radius_has_its_shape(device):
    with FakeTensorMode() if device == "fake" else torch.device("meta"):
        lens, depth_m = ThinLens(torch.empty(2), torch.empty(2)), torch.empty(2, 1, 4, 6)
        radius_px = coc_radius_px(lens, depth_m, torch.empty(2), torch.empty(2))
    assert radius_px.shape == depth_m.shape
