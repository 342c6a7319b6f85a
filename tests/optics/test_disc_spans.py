"""Large discs by running sums, against the plain loop over taps."""

import pytest
import torch
from torch.nn import functional

from dofsuite.optics import gather, render_bokeh
from dofsuite.optics.disc_spans import DiscSpans


@pytest.fixture
def always_spans(monkeypatch):
    monkeypatch.setattr(gather, "RINGS_UP_TO_PX_CPU", 0.0)


def tap_loop(image, radius_px, reach):
    """The definition, tap by tap, differentiated by autograd."""
    disc_px = radius_px.abs().clamp(min=0.5)
    padded = functional.pad(image, (reach,) * 4, mode="replicate")
    height, width = image.shape[-2:]
    light, weight = torch.zeros_like(image), torch.zeros_like(disc_px)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            edge = (disc_px + 0.5 - (dy * dy + dx * dx) ** 0.5).clamp(0, 1)
            rows, columns = slice(reach + dy, None), slice(reach + dx, None)
            tap = padded[..., rows, columns][..., :height, :width]
            light, weight = light + edge * tap, weight + edge
    return light / weight


def rendered_and_gradients(render, image, radius_px):
    image, radius_px = image.clone().requires_grad_(), radius_px.clone().requires_grad_()
    target = torch.rand(image.shape, generator=torch.Generator().manual_seed(1)).to(image)
    rendered = render(image, radius_px)
    (rendered - target).square().sum().backward()
    return rendered.detach(), image.grad, radius_px.grad


def random_case(height, width, largest_px):
    generator = torch.Generator().manual_seed(height)
    image = torch.rand(2, 3, height, width, generator=generator).double()
    radius_px = largest_px * (2 * torch.rand(2, 1, height, width, generator=generator) - 1).double()
    return image, radius_px


@pytest.mark.parametrize(("size", "largest_px"), [((24, 29), 13.0), ((5, 40), 22.0)])
def test_large_discs_and_their_gradients_are_the_loop_s(always_spans, size, largest_px):
    image, radius_px = random_case(*size, largest_px)
    expected = rendered_and_gradients(
        lambda i, r: tap_loop(i, r, int(largest_px) + 1), image, radius_px
    )
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        got = rendered_and_gradients(
            lambda i, r: render_bokeh(i, r, method="gather"), image.to(dtype), radius_px.to(dtype)
        )
        for values, wanted in zip(got, expected, strict=True):
            assert (values - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_sums_of_weight_are_those_of_every_radius_whole_and_half_ones_too():
    radius_px = torch.cat([torch.arange(4, 24, 0.5), torch.linspace(4, 24, 200)]).double()
    weights = DiscSpans(radius_px.reshape(1, 1, 1, -1), 24.0).weights().flatten()
    offset = torch.arange(-25, 26).double()
    distance_px = torch.hypot(offset[:, None], offset).flatten()
    expected = (radius_px[:, None] + 0.5 - distance_px).clamp(0, 1).sum(1)
    assert torch.allclose(weights, expected, rtol=1e-12)


def test_rings_and_running_sums_have_the_same_numbers(scene, monkeypatch):
    image, radius_px = scene
    by_rings = render_bokeh(image, 3 * radius_px, method="gather")
    monkeypatch.setattr(gather, "RINGS_UP_TO_PX_CPU", 0.0)
    assert torch.allclose(render_bokeh(image, 3 * radius_px, method="gather"), by_rings, atol=1e-6)


def test_a_radius_above_the_promised_one_counts_as_that_one_without_gradient(always_spans):
    image, radius_px = random_case(12, 14, 9.0)
    wide = radius_px.clone()
    wide[..., 3, 3] = 50.0
    radius_px[..., 3, 3] = 9.0
    promise = {"method": "gather", "radius_range_px": (-9.0, 9.0), "reads_radius": False}
    cut, _, grad = rendered_and_gradients(lambda i, r: render_bokeh(i, r, **promise), image, wide)
    assert torch.equal(cut, render_bokeh(image, radius_px, **promise))
    assert grad[..., 3, 3].count_nonzero() == 0


@pytest.mark.slow
def test_at_full_size_and_radius_200_sampled_pixels_are_the_loop_s():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 1024, 1024, generator=generator)
    coarse = torch.rand(1, 1, 9, 9, generator=generator)
    radius_px = 200 * functional.interpolate(coarse, size=(1024, 1024), mode="bicubic").clamp(0, 1)
    rendered = render_bokeh(image, radius_px, method="gather")
    padded = functional.pad(image.double(), (202,) * 4, mode="replicate")[0]
    offset = torch.arange(-202, 203).double()
    distance_px = torch.hypot(offset[:, None], offset)
    for y, x in torch.randint(0, 1024, (100, 2), generator=generator).tolist():
        edge = (radius_px[0, 0, y, x].double().clamp(min=0.5) + 0.5 - distance_px).clamp(0, 1)
        expected = (padded[:, y : y + 405, x : x + 405] * edge).sum((1, 2)) / edge.sum()
        assert (rendered[0, :, y, x] - expected).abs().max() <= 1e-5
