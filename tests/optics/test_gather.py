import time

import numpy as np
import pytest
import torch

from dofsuite.optics import render_bokeh
from dofsuite.optics.gather import LEAST_RADIUS_PX, rings_within


def loop_reference(image, radius_px):
    """TAF's local disc blur for one item, output pixel by output pixel; CoC = 2 |radius|, clamped
    to 1 px.
    """
    _, height, width = image.shape
    out = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            r = max(2 * abs(radius_px[y, x]), 1) / 2
            reach = int(np.ceil(r + 0.5))
            total = 0.0
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    d = np.hypot(dy, dx)
                    w = 1.0 if d <= r - 0.5 else max(r + 0.5 - d, 0.0)
                    out[:, y, x] += (
                        w
                        * image[:, min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
                    )
                    total += w
            out[:, y, x] /= total
    return out


def random_case(height, width, largest_px, batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(height * width)
    image = torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    radius_px = (
        2 * torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64) - 1
    ) * largest_px
    return image.to(dtype), radius_px.to(dtype)


def gradients(image, radius_px):
    image, radius_px = image.clone().requires_grad_(), radius_px.clone().requires_grad_()
    target = torch.rand(image.shape, generator=torch.Generator().manual_seed(1), dtype=image.dtype)
    (render_bokeh(image, radius_px, method="gather") - target).square().sum().backward()
    return image.grad, radius_px.grad


@pytest.mark.parametrize("largest_px", [0.4, 1.2, 4.7])
@pytest.mark.parametrize("size", [(13, 8), (1, 9), (1, 1), (4, 17)])
def test_gather_equals_the_plain_loop(size, largest_px):
    image, radius_px = random_case(*size, largest_px)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        rendered = render_bokeh(image.to(dtype), radius_px.to(dtype), method="gather")
        for item in range(2):
            expected = loop_reference(image[item].numpy(), radius_px[item, 0].numpy())
            assert np.abs(rendered[item].numpy() - expected).max() <= tolerance


def test_at_whole_and_half_radii_too_the_rim_is_the_loop_s():
    image, _ = random_case(9, 11, 1, batch=1)
    radius_px = torch.tensor(
        [0.0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, -2.5, -0.5], dtype=torch.float64
    ).expand(1, 1, 9, 11)
    rendered = render_bokeh(image, radius_px, method="gather")
    assert np.allclose(
        rendered[0].numpy(), loop_reference(image[0].numpy(), radius_px[0, 0].numpy()), atol=1e-12
    )


def test_gradient_equals_finite_differences_in_image_and_radius():
    image, radius_px = random_case(3, 4, 2.6, batch=2)
    inputs = (image.requires_grad_(), radius_px.requires_grad_())
    assert torch.autograd.gradcheck(lambda i, r: render_bokeh(i, r, method="gather"), inputs)


def test_up_to_a_circle_of_one_pixel_it_is_the_identity():
    image, radius_px = random_case(12, 15, LEAST_RADIUS_PX)
    assert torch.equal(render_bokeh(image, radius_px, method="gather"), image)


def test_radius_gradient_is_exactly_zero_up_to_the_clamp_and_nowhere_zero_above():
    image, _ = random_case(20, 24, 1, batch=1, dtype=torch.float32)
    steps_px = torch.linspace(0, 6, 20 * 24).reshape(1, 1, 20, 24)
    for radius_px in (steps_px, -steps_px):
        _, grad_radius = gradients(image, radius_px)
        assert torch.isfinite(grad_radius).all()
        assert torch.equal(grad_radius != 0, radius_px.abs() > LEAST_RADIUS_PX)


def test_the_rim_is_never_empty_so_no_radius_is_without_gradient():
    for radius_px in np.linspace(0.5, 20, 300)[1:]:
        distances = [ring.distance_px for ring in rings_within(radius_px + 0.5)]
        assert radius_px - 0.5 < distances[-1] < radius_px + 0.5


def test_gradient_is_finite_at_kinks_and_where_all_is_black_or_in_focus():
    black_left = torch.rand(1, 3, 10, 12) * (torch.arange(12) > 5)
    for value in (0.0, 0.5, 1.0, 1.5, 2.5, -7.5, 30.0):
        for grad in gradients(black_left, torch.full((1, 1, 10, 12), value)):
            assert torch.isfinite(grad).all()


def test_border_is_repeated_outwards_where_the_other_methods_see_nothing():
    image = torch.zeros(1, 3, 9, 9, dtype=torch.float64)
    image[..., 0] = 1
    radius_px = torch.full((1, 1, 9, 9), 1.0, dtype=torch.float64)
    # a disc of radius 1: the center 1, four neighbors 0.5, four corners 1.5 - sqrt(2)
    corner = 1.5 - 2**0.5
    expected = (1 + 3 * 0.5 + 2 * corner) / (1 + 4 * 0.5 + 4 * corner)
    assert render_bokeh(image, radius_px, method="gather")[0, 0, 4, 0].item() == pytest.approx(
        expected, abs=1e-12
    )


def test_half_precision_is_computed_in_float32_and_comes_back_as_it_went_in(scene):
    image, radius_px = scene
    for dtype in (torch.bfloat16, torch.float16):
        half = render_bokeh(image.to(dtype), radius_px, method="gather")
        assert half.dtype == dtype
        assert torch.equal(
            half, render_bokeh(image.to(dtype).float(), radius_px, method="gather").to(dtype)
        )


def test_autocast_does_not_reach_into_it_forward_or_backward(scene):
    outside = gradients(*scene)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gradients(*scene)
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_a_batch_equals_its_items(scene):
    image, radius_px = scene
    batch_image, batch_radius_px = (
        torch.cat([image, image.flip(-1)]),
        torch.cat([radius_px, 0.3 * radius_px]),
    )
    batch = render_bokeh(batch_image, batch_radius_px, method="gather")
    for item in range(2):
        alone = render_bokeh(
            batch_image[item : item + 1], batch_radius_px[item : item + 1], method="gather"
        )
        assert torch.allclose(batch[item : item + 1], alone, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 4])
def test_saved_for_backward_are_image_and_radius_whatever_the_radius(scene, factor):
    image, radius_px = scene
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.nbytes) or t, lambda t: t
    ):
        render_bokeh(
            image.clone().requires_grad_(),
            factor * radius_px.clone().requires_grad_(),
            method="gather",
        )
    assert sum(saved) == image.nbytes + radius_px.nbytes


def test_offsets_beyond_the_largest_radius_cost_nothing():
    image = torch.rand(1, 3, 96, 96)
    seconds = {}
    for radius in (3.0, 24.0):
        start = time.perf_counter()
        render_bokeh(image, torch.full((1, 1, 96, 96), radius), method="gather")
        seconds[radius] = time.perf_counter() - start
    assert seconds[3.0] < seconds[24.0]
    # all whole offsets nearer than 3.5: Gauss' circle problem for 12 (37 offsets), for 24.5 it has
    # 1885
    assert [sum(len(ring.offsets) for ring in rings_within(limit)) for limit in (3.5, 24.5)] == [
        37,
        1885,
    ]


def test_without_values_the_shapes_and_the_gradients_are_there():
    image = torch.empty(1, 3, 1024, 768, device="meta", dtype=torch.bfloat16, requires_grad=True)
    radius_px = torch.empty(1, 1, 1024, 768, device="meta", requires_grad=True)
    rendered = render_bokeh(image, radius_px, method="gather")
    rendered.sum().backward()
    assert (rendered.shape, rendered.dtype, rendered.device.type) == (
        image.shape,
        torch.bfloat16,
        "meta",
    )
    assert (image.grad.shape, radius_px.grad.shape) == (image.shape, radius_px.shape)
