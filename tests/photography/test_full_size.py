"""Rendering at full size, by tiles and with occlusion's difference, against rendering at once."""

import pytest
import torch
from torch.nn.functional import interpolate

from dofsuite.optics import Aperture, linear_to_srgb, render_bokeh
from dofsuite.photography import full_size
from dofsuite.photography.full_size import render_full_size, render_tiles


@pytest.fixture
def scene():
    """A near square over a slanted ground: light [3, h, w] and signed radius [1, h, w] in px."""
    generator = torch.Generator().manual_seed(0)
    light = torch.rand(3, 20, 25, generator=generator).repeat_interleave(8, 1)
    light = light.repeat_interleave(8, 2)
    radius_px = torch.linspace(-6, -1, 160)[None, :, None].repeat(1, 1, 200)
    radius_px[:, 50:110, 60:140] = 5.0
    return light, radius_px


def psnr_db(ours: torch.Tensor, reference: torch.Tensor) -> float:
    error = linear_to_srgb(ours) - linear_to_srgb(reference)
    return float(-10 * torch.log10((error**2).mean()))


@pytest.mark.parametrize("method", ["layered", "exact", "gather"])
def test_tiles_add_up_to_the_photograph_rendered_at_once(scene, method):
    light, radius_px = scene
    at_once = render_bokeh(light[None], radius_px[None], method)[0]
    tiled = render_tiles(light, radius_px, method, tile_px=67)
    assert 255 * float((linear_to_srgb(tiled) - linear_to_srgb(at_once)).abs().max()) < 1.5


def test_tiles_have_the_photograph_s_cat_s_eye(scene):
    light, radius_px = scene
    aperture = Aperture(blades=5, cat_eye=0.6)
    at_once = render_bokeh(light[None], radius_px[None], "exact", aperture=aperture)[0]
    tiled = render_tiles(light, radius_px, "exact", tile_px=67, aperture=aperture)
    assert torch.allclose(tiled, at_once, atol=1e-5)
    tiled = render_tiles(light, radius_px, "layered", tile_px=100, aperture=aperture)
    assert psnr_db(tiled, at_once) >= 55


def test_tiles_occlude_as_the_photograph_rendered_at_once_does(scene):
    """Hidden parts are inpainted from a tile's surroundings alone, so not to the last digit."""
    light, radius_px = scene
    at_once = render_bokeh(light[None], radius_px[None], "occlusion")[0]
    assert psnr_db(render_tiles(light, radius_px, "occlusion", tile_px=80), at_once) >= 55


def test_a_sharp_tile_stays_bit_for_bit(scene):
    light, radius_px = scene[0], torch.zeros(1, 160, 200)
    radius_px[:, :, 180:] = 3.0
    ours = render_tiles(light, radius_px, "layered", tile_px=50)
    assert torch.equal(ours[..., :100], light[..., :100])
    assert not torch.equal(ours[..., 180:], light[..., 180:])


def test_up_to_four_megapixels_occlusion_is_rendered_at_once(scene):
    light, radius_px = scene
    expected = render_bokeh(light[None], radius_px[None], "occlusion")[0]
    assert psnr_db(render_full_size(light, radius_px), expected) >= 90


def test_a_large_photograph_keeps_occlusion_at_its_edges(scene, monkeypatch):
    """Scaled 2.45 times as 24 are to 4 megapixels, at radii as a large photograph has them."""
    monkeypatch.setattr(full_size, "OCCLUSION_UP_TO_PX", 160 * 200 / 6 * 4)
    light, radius_px = (
        interpolate(each[None], scale_factor=2.0, mode="bilinear")[0] for each in scene
    )
    radius_px = 3 * (radius_px - radius_px.max())  # the square in focus, the ground far behind
    occluded = render_bokeh(light[None], radius_px[None], "occlusion")[0]
    scattered = render_bokeh(light[None], radius_px[None], "layered")[0]
    ours = render_full_size(light, radius_px)
    assert psnr_db(ours, occluded) >= psnr_db(scattered, occluded) + 6


def test_without_depth_edges_the_difference_is_small(scene, monkeypatch):
    monkeypatch.setattr(full_size, "OCCLUSION_UP_TO_PX", 160 * 200 / 6)
    light = scene[0]
    radius_px = torch.linspace(-6, 6, 160)[None, :, None].repeat(1, 1, 200)
    layered = render_tiles(light, radius_px, "layered")
    assert psnr_db(render_full_size(light, radius_px), layered) >= 50
