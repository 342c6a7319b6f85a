import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from dofsuite.optics import render_bokeh
from dofsuite.optics.kernel import tap_weight


def loop_reference(image, radius_px):
    """BokehMe's scatter for one item, pixel by pixel, in plain Python."""
    _, height, width = image.shape
    light, weight = np.zeros((3, height, width)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            r = abs(radius_px[y, x])
            reach = int(r) + 1
            for ty in range(max(0, y - reach), min(height, y + reach + 1)):
                for tx in range(max(0, x - reach), min(width, x + reach + 1)):
                    distance = math.sqrt((ty - y) ** 2 + (tx - x) ** 2)
                    w = (0.5 + 0.5 * math.tanh(4 * (r - distance))) / (r * r + 0.2)
                    light[:, ty, tx] += w * image[:, y, x]
                    weight[ty, tx] += w
    return light / weight


def random_case(height, width, largest_px, batch=2):
    generator = torch.Generator().manual_seed(height * width)
    image = torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    radius_px = (
        2 * torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64) - 1
    ) * largest_px
    return image, radius_px


# `layered` renders small radii by taps, so it must be exact there: the same reference judges both
# loops.
@pytest.mark.parametrize(
    ("method", "largest_px"), [("exact", 3.9), ("layered", 3.9), ("exact", 7.5)]
)
@pytest.mark.parametrize("size", [(13, 8), (1, 9), (1, 1), (4, 17)])
def test_taps_equal_the_plain_loop(method, largest_px, size):
    image, radius_px = random_case(*size, largest_px)
    rendered = render_bokeh(image, radius_px, method=method)
    for item in range(2):
        expected = loop_reference(image[item].numpy(), radius_px[item, 0].numpy())
        assert np.allclose(rendered[item].numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["exact", "layered"])
@pytest.mark.parametrize("radius", [0.0, 0.7, 3.0, 6.3])
def test_constant_radius_is_a_convolution(method, radius):
    image = torch.rand(1, 3, 40, 31, dtype=torch.float64)
    steps = np.arange(-8, 9)
    distance = np.hypot(steps[:, None], steps)
    reach = np.maximum(abs(steps[:, None]), abs(steps)) <= int(radius) + 1
    kernel = (0.5 + 0.5 * np.tanh(4 * (radius - distance))) / (radius**2 + 0.2) * reach
    weight = convolve2d(np.ones((40, 31)), kernel, mode="same")
    expected = np.stack(
        [convolve2d(channel, kernel, mode="same") / weight for channel in image[0].numpy()]
    )
    rendered = render_bokeh(
        image, torch.full((1, 1, 40, 31), radius, dtype=torch.float64), method=method
    )
    assert np.allclose(rendered[0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("method", ["exact", "layered"])
def test_a_flat_image_stays_flat_to_its_border(method, scene):
    _, radius_px = scene
    flat = torch.full((1, 3, 48, 40), 0.3)
    assert torch.allclose(render_bokeh(flat, radius_px, method=method), flat, atol=1e-6)


@pytest.mark.parametrize("method", ["exact", "layered"])
def test_only_the_size_of_the_radius_matters(method, scene):
    image, radius_px = scene
    front, behind = (render_bokeh(image, sign * radius_px, method=method) for sign in (1, -1))
    assert torch.equal(front, behind)


def test_the_weight_is_bokehme_s():
    radius, distance = torch.tensor([0.0, 1.3, 9.5], dtype=torch.float64), 2.0
    expected = (
        (0.5 + 0.5 * torch.tanh(4 * (radius - distance)))
        / (radius**2 + 0.2)
        * torch.tensor([0.0, 1, 1])
    )
    assert torch.allclose(tap_weight(radius, distance, 2), expected, atol=1e-15)


@pytest.mark.parametrize("method", ["exact", "layered"])
def test_gradient_of_the_taps_equals_finite_differences(method):
    image, radius_px = random_case(4, 5, 1.9, batch=1)
    inputs = (image.requires_grad_(), radius_px.requires_grad_())
    assert torch.autograd.gradcheck(lambda i, r: render_bokeh(i, r, method=method), inputs)


def test_saved_for_backward_is_a_few_maps_of_the_image_s_size(scene):
    image, radius_px = scene
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.nbytes) or t, lambda t: t
    ):
        render_bokeh(image.requires_grad_(), radius_px.requires_grad_(), method="exact")
    assert sum(saved) <= 20 * radius_px.nbytes
