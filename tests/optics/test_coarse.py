"""Wide discs at half and a quarter of the resolution: the loop's numbers, exact adjoints."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from dofsuite.optics import render_bokeh
from dofsuite.optics.coarse import CoarseFrame, halved, halved_adjoint
from dofsuite.optics.fourier import FourierFrame, KernelSpectra
from dofsuite.optics.layered import LayeredScattering, default_num_layers
from dofsuite.optics.scattering import with_weight
from tests.optics.photographs import psnr_db
from tests.optics.sampled import at_pixels, random_pixels, scattered_at


@pytest.mark.parametrize("length", [7, 12])
def test_an_axis_is_averaged_by_1_3_3_1_at_every_other_place(length):
    values = torch.rand(length, dtype=torch.float64)
    expected = np.convolve(values, [1, 3, 3, 1])[1::2]
    assert np.allclose(halved(values[None, :], -1)[0], expected)
    assert torch.equal(halved(values[:, None], -2), halved(values[None, :], -1).mT)


@pytest.mark.parametrize("size", [(7, 12), (20, 9)])
def test_halving_has_its_adjoint(size):
    image = torch.rand(2, *size, dtype=torch.float64)
    for dim in (-1, -2):
        sums = torch.rand_like(halved(image, dim))
        returned = halved_adjoint(sums, dim, size[dim])
        assert torch.allclose((halved(image, dim) * sums).sum(), (image * returned).sum())


@pytest.mark.parametrize(("halvings", "radius_px"), [(1, 24.0), (2, 72.0)])
def test_a_wide_disc_at_a_coarse_resolution_is_the_full_one_s(halvings, radius_px):
    coarse_image = torch.rand(1, 20, 24, generator=torch.Generator().manual_seed(0)).double()
    image = functional.interpolate(coarse_image[None], size=(161, 190), mode="bicubic")[0]
    blurred = []
    for frame in (
        FourierFrame(161, 190, int(radius_px) + 1),
        CoarseFrame(161, 190, int(radius_px) + 1, halvings=halvings),
    ):
        kernel = KernelSpectra(frame, image.device, torch.float64)(torch.tensor([radius_px]))
        blurred.append(frame.inverse(frame.forward(image) * kernel))
    assert psnr_db(blurred[1] / blurred[0].max(), blurred[0] / blurred[0].max()) > 65


@pytest.fixture(scope="module")
def wide_scene():
    """Noise on every scale, 256 px, and radii from 0 to 90.7 px with a step."""
    generator = torch.Generator().manual_seed(0)
    image = (
        sum(
            functional.interpolate(
                torch.rand(1, 3, px, px, generator=generator), 256, mode="bicubic"
            )
            for px in (8, 32, 256)
        )
        / 3
    )
    radius_px = torch.linspace(0, 90.7, 256)[:, None].expand(256, 256).clone()
    radius_px[60:120, 30:100] = 70.0
    return image.clamp(0, 1), radius_px[None, None]


def test_three_bands_of_radii_equal_the_exact_scatter_to_60_db(wide_scene):
    pixels = random_pixels((256, 256), 60)
    layered = at_pixels(render_bokeh(*wide_scene), pixels)
    assert psnr_db(layered, scattered_at(*wide_scene, pixels)) > 60


def test_the_adjoint_of_three_bands_is_exact_and_their_slope_that_of_finite_differences(wide_scene):
    image, radius_px = (each.double() for each in wide_scene)
    # Nodes are detached: the largest radius stays
    direction = torch.randn(radius_px.shape, generator=torch.Generator().manual_seed(1)).double()
    direction *= (radius_px < 90) & (radius_px > 4.1)
    scattering, light = LayeredScattering(91.0, 12), with_weight(image)
    grad_sums = torch.rand_like(light)
    grad_light, grad_radius = scattering.scatter_adjoint(grad_sums, light, radius_px)
    sums = scattering.scatter(light, radius_px)
    assert torch.allclose((sums * grad_sums).sum(), (light * grad_light).sum(), rtol=1e-9)
    step = 1e-6
    ahead, behind = (
        (scattering.scatter(light, radius_px + sign * step * direction) * grad_sums).sum()
        for sign in (1, -1)
    )
    slope = (grad_radius * direction).sum().item()
    assert ((ahead - behind) / (2 * step)).item() == pytest.approx(slope, rel=1e-3)


def test_only_wide_discs_in_large_images_are_coarse():
    def frames(size_px, largest_px):
        scattering = LayeredScattering(largest_px, default_num_layers(largest_px))
        return [frame for _, frame in scattering.bands(torch.zeros(1, 1, size_px, size_px))]

    assert [type(frame) for frame in frames(256, 24.0)] == [FourierFrame]
    assert [type(frame) for frame in frames(255, 200.0)] == [FourierFrame]
    assert [frame.size[0] / frame.full_size[0] for frame in frames(256, 200.0)] == [1, 0.5, 0.25]
