"""The network's small answer at the photograph's full size, on a real photograph with depth."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from dofsuite.data.synthetic.motorcycle import motorcycle
from dofsuite.images import resize
from dofsuite.optics import bokeh_radius_px, linear_to_srgb, render_bokeh, srgb_to_linear
from dofsuite.photography import Photo
from dofsuite.photography.scene_depth import scene_from_meters
from dofsuite.refocus.full_size import full_size_photo, with_fine_scales

POINT, LEVEL = (0.45, 0.6), 6.0


@pytest.fixture(scope="module")
def scene():
    crop = motorcycle()
    image = torch.tensor(crop.image_srgb).permute(2, 0, 1)[:, 100:420, 200:680] / 255
    return image, scene_from_meters(np.ascontiguousarray(crop.depth_m[100:420, 200:680]))


def photographed(image, depth):
    """What a lens makes of it, by the exact renderer with occlusion."""
    radius_px = bokeh_radius_px(depth.disparity, depth.at(POINT), LEVEL, max(image.shape[-2:]), 512)
    light = render_bokeh(srgb_to_linear(image[None]), radius_px, method="occlusion")
    return linear_to_srgb(light)[0].clamp(0, 1)


def psnr(one, other):
    return -10 * torch.log10((one - other).square().mean()).item()


def refocused(image, answer, depth):
    return full_size_photo(Photo(image), answer, depth, POINT, LEVEL, 512.0).image


def test_from_a_sharp_photograph_a_perfect_network_gives_the_full_size_photograph(scene):
    image, depth = scene
    truth = photographed(image, depth)
    answer = resize(truth, 107, 160)  # a third: all that a network of this size can know
    enlarged = interpolate(answer[None], image.shape[-2:], mode="bicubic")[0].clamp(0, 1)
    assert psnr(refocused(image, answer, depth), truth) > 45
    assert psnr(enlarged, truth) < 32


def test_where_the_photograph_is_blurred_the_network_s_sharpness_stays(scene):
    """The photograph is in focus at the back alone; the answer is in focus at the front."""
    image, depth = scene
    radius_px = bokeh_radius_px(depth.disparity, 0.0, 12.0, 480, 512)
    blurred = linear_to_srgb(render_bokeh(srgb_to_linear(image[None]), radius_px, "occlusion"))[0]
    truth = photographed(image, depth)
    answer = resize(truth, 213, 320)
    made = refocused(blurred.clamp(0, 1), answer, depth)
    front = (depth.disparity[0] - depth.at(POINT)).abs().expand(3, -1, -1) < 0.15
    enlarged = interpolate(answer[None], image.shape[-2:], mode="bicubic")[0].clamp(0, 1)
    for picture in (made, enlarged):
        assert psnr(picture[front], truth[front]) > psnr(blurred[front], truth[front]) + 4
    # The blurred photograph's fine scales cost it little there
    assert psnr(made[front], truth[front]) > psnr(enlarged[front], truth[front]) - 1


def test_an_answer_that_changes_nothing_gives_the_photograph_back(scene):
    image, _ = scene
    small = interpolate(image[None], (80, 120), mode="bicubic", antialias=True)[0]
    torch.testing.assert_close(with_fine_scales(small, image), image, rtol=0, atol=1e-6)
