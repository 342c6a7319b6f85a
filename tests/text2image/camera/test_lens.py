"""The lens in the loop against a closed form, and the gradients that training needs of it."""

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from dofsuite.data.batch import resize_and_crop
from dofsuite.errors import UserError
from dofsuite.experiment import read_command, read_experiment
from dofsuite.optics.bokeh import METHODS
from dofsuite.text2image.camera.exif import Exif
from dofsuite.text2image.camera.lens import Lens, Method, soft_clamp_max, soft_clamp_min
from dofsuite.text2image.scene import Scene

GAMMAS = (1.0, 2.2, "srgb")


def tensor(*numbers, dtype=torch.float64):
    return torch.tensor(numbers, dtype=dtype)


def exif(f_number=1.8, focal_length_mm=50.0):
    return Exif(tensor(f_number), tensor(focal_length_mm))


def depth_row(*depths):
    return tensor(*depths).reshape(1, 1, 1, -1)


def slope(height=16, width=24, near=1.0, far=5.0):
    return torch.linspace(near, far, width, dtype=torch.float64).expand(1, 1, height, width).clone()


def random_image(height=16, width=24, seed=0):
    return torch.rand(
        1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize(("f_number", "focal_mm"), [(1.8, 50.0), (4.0, 24.0), (22.0, 135.0)])
def test_radius_is_half_of_taf_s_circle_of_confusion(f_number, focal_mm):
    # c = |Z - S1| / Z * F^2 / (N (S1 - F)) in mm, Z = f_s D, S1 = f_s f_d; c_px = c * W / 36;
    # numpy, in millimetres
    depth, focus, scale, width = np.array([0.7, 1.5, 3.0, 40.0]), 2.0, 850.0, 1024
    z, s1 = scale * depth, scale * focus
    coc_mm = np.abs(z - s1) / z * focal_mm**2 / (f_number * (s1 - focal_mm))
    radius = Lens().radius_px(
        depth_row(*depth), tensor(focus), tensor(scale), exif(f_number, focal_mm), width
    )
    np.testing.assert_allclose(radius.abs().flatten(), coc_mm * width / 36.0 / 2, rtol=1e-12)
    assert radius.flatten().sign().tolist() == [1, 1, -1, -1]


def test_the_scale_enters_through_focus_beyond_the_focal_length_alone():
    depth = depth_row(0.7, 1.5, 3.0, 40.0)
    scales, focus, focal_mm = (500.0, 1000.0, 4000.0), 2.0, 50.0
    relative = []
    for scale in scales:
        radius = Lens().radius_px(depth, tensor(focus), tensor(scale), exif(), 512)
        relative.append(radius * (scale * focus - focal_mm))
    assert torch.allclose(relative[0], relative[1], rtol=1e-12)
    assert torch.allclose(relative[0], relative[2], rtol=1e-12)


def test_each_item_has_a_lens_a_focus_and_a_width_of_its_own():
    depth = torch.cat([slope(), 2 * slope()])
    both = Exif(tensor(1.8, 5.6), tensor(50.0, 85.0))
    radius = Lens().radius_px(
        depth, tensor(2.0, 3.0), tensor(1000.0, 700.0), both, tensor(1024.0, 640.0)
    )
    alone = Lens().radius_px(depth[1:], tensor(3.0), tensor(700.0), exif(5.6, 85.0), 640)
    assert torch.allclose(radius[1:], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("focus", [0.01, 0.37, 1.7, 123.4])
def test_what_is_in_focus_has_radius_zero_even_where_the_guard_acts(dtype, focus):
    depth = torch.full((1, 1, 2, 2), focus, dtype=dtype)
    radius = Lens().radius_px(
        depth, tensor(focus, dtype=dtype), tensor(1000.0, dtype=dtype), exif(), 1024
    )
    assert radius.abs().max() == 0


def test_infinite_depth_gives_the_finite_limit():
    radius = Lens().radius_px(depth_row(math.inf), tensor(2.0), tensor(1000.0), exif(), 1024)
    assert radius.item() == pytest.approx(-(50.0**2) / (1.8 * 1950.0) * 1024 / 36 / 2, rel=1e-5)


def test_at_f_22_a_landscape_is_the_image_itself():
    image, depth = random_image(), slope(near=3.0, far=1000.0)
    photograph = Lens().photograph(scene(image, depth, 6.0), exif(22.0, 24.0), 1024)
    assert torch.equal(photograph, image)


@pytest.mark.parametrize("method", ["gather", "occlusion", "layered"])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_a_wide_aperture_blurs_what_is_out_of_focus_and_keeps_what_is_in_it(method, gamma):
    image, depth = random_image(24, 48), slope(24, 48)
    depth[..., :24], depth[..., 24:] = 2.0, 30.0
    sharp = Lens(method=method, gamma=gamma).photograph(scene(image, depth, 2.0), exif(1.8), 256)
    # BokehMe's kernel leaks a thousandth of the light into the neighbors even at radius 0: much,
    # next to black.
    change = (sharp - image)[..., :16].abs()
    assert change.mean() < 5e-3 if method == "layered" else change.max() < 1e-5
    assert sharp[..., 32:].var() < 0.25 * image[..., 32:].var()


def test_gamma_blurs_light_and_not_display_values():
    # half black, half white, blurred beyond recognition: in light the mean is 1/2, on the display
    # 0.5 ** (1 / 2.2)
    image = torch.zeros(1, 3, 48, 48, dtype=torch.float64)
    image[..., ::2] = 1.0
    depth = torch.full((1, 1, 48, 48), math.inf, dtype=torch.float64)
    shown = {}
    for gamma in GAMMAS:
        blurred = Lens(gamma=gamma).photograph(scene(image, depth, 1.0), exif(1.4, 85.0), 96)
        shown[gamma] = blurred[..., 24, 24].mean()
    assert shown[1.0].item() == pytest.approx(0.5, abs=0.04)
    assert shown[2.2].item() == pytest.approx(0.5 ** (1 / 2.2), abs=0.04)
    assert shown["srgb"].item() == pytest.approx(1.055 * 0.5 ** (1 / 2.4) - 0.055, abs=0.04)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_values_outside_the_display_range_stay_finite_and_keep_their_bounds(gamma):
    image = (3 * random_image() - 1).requires_grad_()
    photograph = Lens(gamma=gamma).photograph(scene(image, slope(), 2.0), exif(), 512)
    photograph.square().sum().backward()
    assert torch.isfinite(photograph).all()
    assert torch.isfinite(image.grad).all()
    if gamma == 1.0:
        assert photograph.min() < 0
    else:
        assert photograph.min() >= 0
        assert photograph.max() <= 1 + 1e-6


def scene(image, depth, focus):
    return Scene(None, image, depth, tensor(focus), tensor(1000.0))


def gradients(depth, focus, scale, lens=None, settings=None, width=512):
    inputs = (random_image(*depth.shape[-2:]), depth, tensor(focus), tensor(scale))
    inputs = [value.clone().requires_grad_() for value in inputs]
    weights = random_image(*depth.shape[-2:], seed=1)
    blurred = (lens or Lens()).photograph(Scene(None, *inputs), settings or exif(), width)
    (weights * blurred).sum().backward()
    return dict(
        zip(("image", "depth", "focus", "scale"), (value.grad for value in inputs), strict=True)
    )


def test_above_the_clamp_every_input_has_a_gradient():
    for name, gradient in gradients(slope(), 2.0, 1000.0).items():
        assert torch.isfinite(gradient).all(), name
        assert gradient.abs().max() > 0, name


def test_below_the_clamp_only_the_image_has_a_gradient():
    found = gradients(slope(), 2.0, 1000.0, settings=exif(22.0, 10.0))
    assert found["image"].abs().min() > 0
    assert found["depth"].abs().max() == 0
    assert found["focus"].abs().max() == 0
    assert found["scale"].abs().max() == 0


@pytest.mark.parametrize("method", ["gather", "occlusion", "layered"])
@pytest.mark.parametrize(
    "case", ["in focus", "infinite", "half infinite", "hole", "f/22", "focus before the lens"]
)
def test_gradients_are_finite_at_the_corners(method, case):
    depth = slope()
    settings, focus = (
        exif(22.0 if case == "f/22" else 1.8),
        0.001 if case == "focus before the lens" else 2.0,
    )
    if case in ("in focus", "infinite"):
        depth = torch.full_like(depth, 2.0 if case == "in focus" else math.inf)
    elif case in ("half infinite", "hole"):
        depth[..., ::2] = math.inf if case == "half infinite" else 0.0
    found = gradients(depth, focus, 1000.0, Lens(method=method), settings, width=64)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert found["image"].abs().max() > 0


def test_a_focus_inside_the_focal_length_still_teaches_the_scale():
    scale = tensor(1000.0).requires_grad_()
    radius = Lens().radius_px(slope(near=0.02, far=0.2), tensor(0.03), scale, exif(), 64)
    radius.abs().sum().backward()
    assert torch.isfinite(radius).all()
    assert scale.grad.item() < 0


def test_the_radius_follows_its_gradient_by_finite_differences():
    settings, lens = exif(), Lens()

    def radius(depth, focus, scale):
        return lens.radius_px(depth, focus, scale, settings, 512)

    for focus in (
        2.0,
        0.13,
        0.05,
    ):  # free, eased, and far inside the guard; with a radius at the bound
        inputs = [
            slope(2, 3, 0.1, 5.0).requires_grad_(),
            tensor(focus).requires_grad_(),
            tensor(1000.0).requires_grad_(),
        ]
        assert torch.autograd.gradcheck(radius, inputs)


def test_easing_is_the_identity_up_to_the_knee_then_bends_smoothly_and_is_never_flat():
    values = torch.linspace(-200, 400, 6001, dtype=torch.float64).requires_grad_()
    least, knee = tensor(100.0), tensor(150.0)
    eased = soft_clamp_min(values, least, knee)
    slopes = torch.autograd.grad(eased.sum(), values)[0]
    assert torch.equal(eased[values >= 150], values[values >= 150])
    assert (eased > 100).all()
    assert (slopes > 0).all()
    assert slopes.diff().abs().max() < 0.005
    assert torch.equal(soft_clamp_max(-values, -least, -knee), -eased)


def test_the_largest_radius_is_a_share_of_the_long_side():
    depth, settings = depth_row(0.3, 3.0, math.inf), exif(1.4, 200.0)
    free = Lens(largest_radius_share=None).radius_px(
        depth, tensor(1.0), tensor(1000.0), settings, 1024
    )
    bound = Lens(largest_radius_share=0.1).radius_px(
        depth, tensor(1.0), tensor(1000.0), settings, 1024
    )
    assert free.abs().min() > 102.4
    assert (bound.abs() < 102.4).all()
    assert torch.equal(bound.sign(), free.sign())
    assert torch.equal(bound.argsort(), free.argsort())


@pytest.mark.parametrize(
    ("size", "frame_ratio", "expected_px"),
    [
        ((1024, 1024), 1.5, 1536),  # 24 of a 3:2 frame's 36 mm
        ((1024, 1024), 1.0, 1024),
        ((683, 1024), 1.5, 1024.5),
        ((1024, 576), 1.5, 1024),  # narrower than 3:2: cut out of it lengthwise
    ],
)
def test_a_generated_image_is_the_center_of_the_smallest_frame_that_holds_it(
    size, frame_ratio, expected_px
):
    assert Lens(frame_ratio=frame_ratio).frame_width_px(*size) == expected_px


def test_a_generated_square_is_blurred_like_the_photographs_it_was_trained_on():
    """Its frame is the one that the data module tells the lens of a photograph of 3:2 cut to that
    square.
    """
    item = {
        name: torch.zeros(c, 200, 300) for name, c in (("image", 3), ("disparity", 1), ("valid", 1))
    }
    cut = resize_and_crop({**item, "valid": item["valid"] == 0}, 64)
    assert cut["image"].shape == (3, 64, 64)
    assert Lens().frame_width_px(64, 64) == cut["width_px"] == 96


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame_ratio": 0.5},
        {"frame_ratio": math.inf},
        {"gamma": 0.0},
        {"gamma": math.nan},
        {"sensor_width_mm": -36.0},
        {"nearest_focus": 1.0},
        {"largest_radius_share": 0.0},
    ],
)
def test_numbers_that_no_lens_has_are_errors_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Lens(**wrong)


def test_an_unknown_method_is_an_error_before_anything_is_trained():
    experiment = Path(__file__).parents[3] / "experiments" / "text2image_deep.yaml"
    with pytest.raises(UserError, match=r"lens\.method.*occlusion"):
        read_experiment(read_command([str(experiment), "--model.lens.method", "occlusoin"]))
    lens = Lens()
    object.__setattr__(lens, "method", "occlusoin")  # the tests' type checker rejects such a config
    with pytest.raises(
        ValueError, match="method must be one of exact, gather, layered, occlusion, not 'occlusoin'"
    ):
        lens.__post_init__()


def test_the_methods_are_the_renderers():
    assert get_args(Method) == tuple(METHODS)
