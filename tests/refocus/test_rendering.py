"""Training images are those of the exact kernel, and keep their relative blur at any size."""

import pytest
import torch
from torch.nn.functional import interpolate

from dofsuite.data import ShardData
from dofsuite.data.batch import collate, resize_and_crop
from dofsuite.data.buckets import Buckets
from dofsuite.optics import bokeh_radius_px, display_to_linear, linear_to_display, render_bokeh
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.probe import Probe, ProbeRun
from dofsuite.refocus.rendering import Rendering, photograph
from tests.refocus.tiny import tiny_module


@pytest.fixture(scope="module")
def scenes():
    data = ShardData(train={"photo": "synthetic:photo"}, batch_size=4, size_px=64)
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def camera(level, count=4, plane=0.4):
    return Cameras(
        torch.full((count, 2), 0.5), torch.full((count,), plane), torch.full((count,), level)
    )


def test_level_0_is_the_image_bit_for_bit(scenes):
    (picture,) = photograph(
        scenes.image_srgb, scenes.disparity, scenes.width_px, [camera(0.0)], Rendering()
    )
    assert torch.equal(picture, scenes.image_srgb)


@pytest.mark.parametrize("gamma", [2.2, 4.0])
def test_images_are_those_of_the_exact_kernel(scenes, gamma):
    rendering = Rendering(gamma=gamma, layers=61, reference_width_px=128.0)
    one, other = camera(8.0), camera(20.0, plane=0.9)
    pictures = photograph(
        scenes.image_srgb, scenes.disparity, scenes.width_px, [one, other], rendering
    )
    for picture, cam in zip(pictures, (one, other), strict=True):
        radius_px = bokeh_radius_px(
            scenes.disparity, cam.focus_disparity, cam.bokeh_level, scenes.width_px, 128.0
        )
        light = render_bokeh(display_to_linear(scenes.image_srgb, gamma), radius_px, method="exact")
        error = (picture - linear_to_display(light, gamma)).square().mean()
        assert -10 * error.log10() > 50


def test_a_level_has_the_same_look_at_twice_the_size(scenes):
    def blurred(scale):
        image, disparity = (
            interpolate(x, scale_factor=scale) for x in (scenes.image_srgb, scenes.disparity)
        )
        rendering = Rendering(gamma=2.2, reference_width_px=128.0)
        (picture,) = photograph(
            image, disparity, scenes.width_px * scale, [camera(16.0)], rendering
        )
        return interpolate(picture, size=(16, 16), mode="area")

    right, wrong = (
        blurred(2) - blurred(1),
        blurred(2) - interpolate(scenes.image_srgb, size=(16, 16), mode="area"),
    )
    assert right.abs().mean() < 0.1 * wrong.abs().mean()


def frames():
    """A 3:2 frame of random pixels in two planes, and its center square as an image of its own."""
    generator = torch.Generator().manual_seed(0)
    image, disparity = torch.rand(3, 64, 96, generator=generator), torch.zeros(1, 64, 96)
    disparity[:, :, 48:] = 1.0
    frame = {
        "image": image,
        "disparity": disparity,
        "valid": torch.ones(1, 64, 96, dtype=torch.bool),
    }
    return [frame, {name: values[:, :, 16:80] for name, values in frame.items()}]


def batch_of(item):
    fields = {
        "has_depth": True,
        "source": 0,
        "index": 3,
        "key": "a",
        "caption": "",
        "f_number": 0,
        "focal_length_mm": 0,
        "sensor_width_mm": 0,
    }
    return collate([resize_and_crop(item, 64) | fields])


def test_one_image_with_one_token_has_one_target_whatever_it_was_cropped_from():
    module = tiny_module()
    cropped, square = (batch_of(item) for item in frames())
    assert torch.equal(cropped.image_srgb, square.image_srgb)
    assert (cropped.width_px.item(), square.width_px.item()) == (96, 64)
    for ours, theirs in zip(module.example(cropped), module.example(square), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    probes = [
        ProbeRun(Probe(levels=(2, 4), pair_level=4), module.rendering, 0, module.predict)
        for _ in range(2)
    ]
    queries = (probes[0].queries(cropped), probes[1].queries(square))
    for one, other in zip(*(q.sweep + q.pair + q.refocused_pair for q in queries), strict=True):
        assert torch.equal(one.target, other.target)
        assert torch.equal(
            probes[0].oracle(cropped, one.camera), probes[1].oracle(square, other.camera)
        )


def test_a_level_is_the_radius_in_px_where_the_square_has_the_reference_width():
    """A lamp one unit of disparity off the focal plane becomes a disc of as many px as its level
    says.
    """
    frame, _ = frames()
    frame["image"][:] = 0
    # in the far half, 20 px from the left of the square and 12 from the near half
    frame["image"][:, 32, 36] = 1.0
    module = tiny_module()
    module.rendering = Rendering(gamma=1.0, layers=2, reference_width_px=64.0)
    batch = batch_of(frame)
    camera = Cameras(torch.tensor([[0.9, 0.5]]), torch.ones(1), torch.tensor([8.0]))
    picture, *_ = module.render(batch, (camera,) * 3)
    lit = (picture[0, 0, 32] > picture.max() / 4).nonzero().flatten().tolist()
    assert (lit[0], lit[-1]) == (20 - 8, 20 + 8)


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"layers": 1}, {"reference_width_px": -1.0}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        Rendering(**wrong)


def test_with_occlusion_no_light_bleeds_over_an_edge_in_focus():
    image, disparity = torch.full((1, 3, 48, 48), 0.1), torch.zeros(1, 1, 48, 48)
    image[..., 24:], disparity[..., :24] = 0.9, 1.0
    in_focus, all_sharp = camera(20.0, count=1, plane=1.0), camera(0.0, count=1)
    bleeding = {}
    for method in ("layered", "occlusion"):
        rendering = Rendering(gamma=2.2, reference_width_px=128.0, method=method)
        picture, sharp = photograph(
            image, disparity, torch.full((1,), 48.0), [in_focus, all_sharp], rendering
        )
        assert torch.equal(sharp, image)
        bleeding[method] = (picture - image)[..., :24].abs().max().item()
    assert bleeding["layered"] > 0.3
    assert bleeding["occlusion"] < 1e-4


def test_batches_of_other_shapes_train_with_the_square_s_radii():
    """As `token_level` assumes at inference: a level is one radius in px, whatever the bucket."""
    module = tiny_module()
    module.trained_size_px = 32
    data = ShardData(
        train={"photo": "synthetic:photo"},
        batch_size=2,
        size_px=32,
        buckets=Buckets(("2:3",), multiple_px=8),
    )
    batch = next(iter(data.train_dataloader()))
    assert tuple(batch.image_srgb.shape[2:]) == (40, 24) == data.shapes_px[0]
    assert module.losses(module.example(batch))["loss"].isfinite()
    cameras = (camera(8.0, 2),) * 3
    target = module.render(batch, cameras)[1]
    radius_px = bokeh_radius_px(
        batch.disparity, cameras[0].focus_disparity, cameras[0].bokeh_level, 32, 256.0
    )
    image_linear = display_to_linear(batch.image_srgb, 2.2)
    exact = linear_to_display(render_bokeh(image_linear, radius_px, method="exact"), 2.2)
    assert -10 * (target - exact.clamp(0, 1)).square().mean().log10() > 40
