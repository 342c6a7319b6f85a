import cv2
import numpy as np
import pytest
import torch

from dofsuite.metrics import laplacian_variance
from dofsuite.metrics.sharpness import checked_levels


@pytest.mark.parametrize("size", [(32, 24), (7, 9), (1, 12), (1, 1)])
def test_of_a_gray_image_it_is_opencv_s_to_the_last_digits(size):
    gray = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    image = torch.from_numpy(gray).float().expand(3, *size) / 255
    assert laplacian_variance(image).item() == pytest.approx(
        cv2.Laplacian(gray, cv2.CV_64F).var(), rel=1e-12, abs=0
    )


def test_of_a_color_image_it_is_opencv_s_up_to_its_fixed_point_gray():
    # cv2.cvtColor weighs channels by whole 16384ths: one pixel in a thousand rounds to another gray
    rgb = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    expected = cv2.Laplacian(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()
    image = torch.from_numpy(rgb).permute(2, 0, 1).float() / 255
    assert laplacian_variance(image).item() == pytest.approx(expected, rel=1e-4)


def test_images_of_a_sweep_are_taken_one_by_one_in_any_precision():
    sweep = torch.rand(2, 3, 3, 9, 8)
    assert laplacian_variance(sweep).shape == (2, 3)
    assert laplacian_variance(sweep)[1, 2].item() == pytest.approx(
        laplacian_variance(sweep[1, 2]).item(), rel=1e-12
    )
    half = sweep.bfloat16()
    assert torch.equal(laplacian_variance(half), laplacian_variance(half.double()))


def test_a_decoder_s_overshoot_is_clamped():
    image = torch.rand(3, 9, 8) * 1.2 - 0.1
    assert laplacian_variance(image) == laplacian_variance(image.clamp(0, 1))


@pytest.mark.parametrize("levels", [[5], [5, 5, 5], []])
def test_too_few_levels_are_rejected_by_name(levels):
    with pytest.raises(ValueError, match="bokeh_levels"):
        checked_levels(levels)
