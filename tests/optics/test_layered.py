import math
import time

import pytest
import torch

from dofsuite.optics import render_bokeh
from dofsuite.optics.fourier import quick_fft_length
from dofsuite.optics.layered import NEAR_PX, default_num_layers
from tests.optics.photographs import psnr_db


def gradients(image, radius_px, **options):
    image, radius_px = image.clone().requires_grad_(), radius_px.clone().requires_grad_()
    target = torch.rand(image.shape, generator=torch.Generator().manual_seed(1), dtype=image.dtype)
    (render_bokeh(image, radius_px, **options) - target).square().mean().backward()
    return image.grad, radius_px.grad


def saved_bytes(image, radius_px):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.nbytes) or t, lambda t: t
    ):
        render_bokeh(image.clone().requires_grad_(), radius_px.clone().requires_grad_())
    return sum(saved)


@pytest.mark.parametrize("scale", [1, 2.5, 4])
def test_default_layers_reach_60_db(scene, scale):
    image, radius_px = scene
    exact, layered = (
        render_bokeh(image, scale * radius_px, method=method) for method in ("exact", "layered")
    )
    assert psnr_db(layered, exact) > 60


def test_more_layers_are_closer(scene):
    image, radius_px = scene
    exact = render_bokeh(image, radius_px, method="exact")
    errors = [
        psnr_db(render_bokeh(image, radius_px, num_layers=layers), exact)
        for layers in (6, 24, 96, 384)
    ]
    assert errors == sorted(errors)
    assert errors[-1] > 90


def test_two_layers_and_one_far_pixel_are_enough_to_render():
    image, radius_px = torch.rand(1, 3, 9, 9), torch.zeros(1, 1, 9, 9)
    radius_px[0, 0, 4, 4] = 6.0
    expected = render_bokeh(image, radius_px, method="exact")
    # the one far pixel lies on the last node, so nothing is interpolated
    assert torch.allclose(render_bokeh(image, radius_px, num_layers=2), expected, atol=1e-6)


def test_a_batch_equals_its_items_each_with_nodes_of_its_own(scene):
    image, radius_px = scene
    batch_image = torch.cat([image, image.flip(-1), image])
    batch_radius_px = torch.cat([radius_px, 3 * radius_px, 0.1 * radius_px])
    batch = render_bokeh(batch_image, batch_radius_px, num_layers=31)
    for item in range(3):
        alone = render_bokeh(
            batch_image[item : item + 1], batch_radius_px[item : item + 1], num_layers=31
        )
        assert torch.allclose(batch[item : item + 1], alone, atol=2e-6)


@pytest.mark.parametrize("size", [(5, 90), (90, 5), (1, 30), (33, 47)])
def test_any_aspect_ratio_and_radii_larger_than_the_frame(size):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, *size, generator=generator)
    radius_px = 60 * torch.rand(1, 1, *size, generator=generator)
    exact = render_bokeh(image, radius_px, method="exact")
    assert psnr_db(render_bokeh(image, radius_px, num_layers=161), exact) > 60


def test_half_precision_comes_back_as_it_went_in(scene):
    image, radius_px = scene
    for dtype in (torch.bfloat16, torch.float16):
        half = render_bokeh(image.to(dtype), radius_px.to(dtype))
        full = render_bokeh(image.to(dtype).float(), radius_px.to(dtype).float())
        assert half.dtype == dtype
        assert torch.equal(half, full.to(dtype))


def test_autocast_does_not_reach_into_the_optics(scene):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = render_bokeh(*scene)
    assert torch.equal(inside, render_bokeh(*scene))


def test_dark_light_stays_at_or_above_zero_and_signed_light_is_kept(scene):
    image, radius_px = scene
    dark = image**4
    dark[..., :20] = 0
    for fft_dtype in (torch.float32, torch.float64):
        assert render_bokeh(dark, radius_px, fft_dtype=fft_dtype).min() >= 0
    signed = 2 * image - 1
    expected = 2 * render_bokeh(image, radius_px) - 1
    assert torch.allclose(render_bokeh(signed, radius_px), expected, atol=1e-5)


def test_gradient_of_the_layers_equals_finite_differences():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 3, 4, generator=generator, dtype=torch.float64)
    radius_px = NEAR_PX + 0.1 + 3 * torch.rand(2, 1, 3, 4, generator=generator, dtype=torch.float64)
    # nodes reach up to each item's largest radius and are detached: one pixel of fixed radius holds
    # them still
    largest_px = torch.full((2, 1, 3, 1), 9.0, dtype=torch.float64)

    def render(image, radius_px):
        radius_px = torch.cat([radius_px, -largest_px], dim=-1)
        return render_bokeh(torch.cat([image, image[..., :1]], dim=-1), radius_px, num_layers=7)

    assert torch.autograd.gradcheck(render, (image.requires_grad_(), radius_px.requires_grad_()))


def test_gradient_agrees_with_the_yardstick_s(scene):
    image, radius_px = scene
    exact = gradients(image, 2 * radius_px, method="exact")
    layered = gradients(image, 2 * radius_px, num_layers=161)
    assert torch.cosine_similarity(exact[0].flatten(), layered[0].flatten(), dim=0) > 0.999
    assert torch.cosine_similarity(exact[1].flatten(), layered[1].flatten(), dim=0) > 0.985


@pytest.mark.parametrize("fft_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "radius_px",
    [
        torch.zeros(1, 1, 24, 20),
        torch.full((1, 1, 24, 20), 11.0),
        torch.linspace(0, 1, 24)[:, None]
        .expand(24, 20)
        .round()
        .mul(30.0)[None, None],  # all layers but two are empty
        torch.full((1, 1, 24, 20), NEAR_PX),
        torch.full((1, 1, 24, 20), 500.0),
    ],
    ids=["in focus", "one radius", "two radii", "on the border of near", "far beyond the frame"],
)
def test_gradients_are_finite_at_zero_radius_and_in_empty_layers(radius_px, fft_dtype):
    black_left = torch.rand(1, 3, 24, 20) * (torch.arange(20) > 7)
    for grad in gradients(black_left, radius_px, fft_dtype=fft_dtype):
        assert torch.isfinite(grad).all()


def test_a_pixel_on_a_node_has_a_radius_gradient_too():
    # the largest radius always lies on the last node: piecewise constant disparity would otherwise
    # learn nothing
    image, radius_px = torch.rand(1, 3, 24, 20), torch.full((1, 1, 24, 20), 8.0)
    radius_px[..., :10] = 5.0
    exact, layered = (
        gradients(image, radius_px, **o)[1] for o in ({"method": "exact"}, {"num_layers": 161})
    )
    assert layered.count_nonzero() == layered.numel()
    assert torch.cosine_similarity(exact.flatten(), layered.flatten(), dim=0) > 0.9


def test_bytes_saved_for_backward_do_not_depend_on_the_radius(scene):
    image, radius_px = scene
    unit = radius_px / radius_px.abs().max()
    assert saved_bytes(image, 64 * unit) == saved_bytes(image, 8 * unit)


def test_layered_is_faster_than_taps_at_large_radii():
    image, radius_px = torch.rand(1, 3, 128, 128), 20 * torch.rand(1, 1, 128, 128)
    seconds = {"exact": math.inf, "layered": math.inf}
    for _ in range(3):
        for method in seconds:
            start = time.perf_counter()
            render_bokeh(image, radius_px, method=method)
            seconds[method] = min(seconds[method], time.perf_counter() - start)
    assert seconds["layered"] < seconds["exact"]


def test_layers_grow_with_the_logarithm_of_the_radius():
    assert [default_num_layers(radius_px) for radius_px in (0, 20, 64, 512)] == [2, 22, 36, 62]


def test_fft_lengths_have_small_factors_and_waste_little():
    for length in range(1, 3000):
        quick, rest = quick_fft_length(length), quick_fft_length(length)
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        assert rest == 1
        assert length <= quick <= max(1.1 * length, length + 6)
