"""Training pictures are the yardstick's pictures, and keep their look at any size."""

import pytest
import torch
from torch.nn.functional import interpolate

from dofsuite.data import ShardData
from dofsuite.optics import bokeh_radius_px, display_to_linear, linear_to_display, render_bokeh
from dofsuite.refocus.draws import Cameras
from dofsuite.refocus.rendering import Rendering, photograph


@pytest.fixture(scope="module")
def scenes():
    data = ShardData(train={"photo": "embedded:photo"}, batch_size=4, size_px=64)
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def camera(level, count=4, plane=0.4):
    return Cameras(torch.full((count, 2), 0.5), torch.full((count,), plane), torch.full((count,), level))


def test_level_0_is_the_image_bit_for_bit(scenes):
    (picture,) = photograph(scenes.image_srgb, scenes.disparity, scenes.width_px, [camera(0.0)], Rendering())
    assert torch.equal(picture, scenes.image_srgb)


@pytest.mark.parametrize("gamma", [2.2, 4.0])
def test_pictures_are_those_of_the_exact_kernel(scenes, gamma):
    rendering = Rendering(gamma=gamma, layers=61, reference_width_px=128.0)
    one, other = camera(8.0), camera(20.0, plane=0.9)
    pictures = photograph(scenes.image_srgb, scenes.disparity, scenes.width_px, [one, other], rendering)
    for picture, cam in zip(pictures, (one, other), strict=True):
        radius_px = bokeh_radius_px(scenes.disparity, cam.focus_disparity, cam.bokeh_level, scenes.width_px, 128.0)
        light = render_bokeh(display_to_linear(scenes.image_srgb, gamma), radius_px, method="exact")
        error = (picture - linear_to_display(light, gamma)).square().mean()
        assert -10 * error.log10() > 50


def test_a_level_has_the_same_look_at_twice_the_size(scenes):
    def blurred(scale):
        image, disparity = (interpolate(x, scale_factor=scale) for x in (scenes.image_srgb, scenes.disparity))
        rendering = Rendering(gamma=2.2, reference_width_px=128.0)
        (picture,) = photograph(image, disparity, scenes.width_px * scale, [camera(16.0)], rendering)
        return interpolate(picture, size=(16, 16), mode="area")

    right, wrong = blurred(2) - blurred(1), blurred(2) - interpolate(scenes.image_srgb, size=(16, 16), mode="area")
    assert right.abs().mean() < 0.1 * wrong.abs().mean()


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"layers": 1}, {"reference_width_px": -1.0}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        Rendering(**wrong)
