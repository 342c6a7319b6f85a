"""Motion blur against SciPy's shifted images and the box that a straight motion draws."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import shift, uniform_filter1d

from dofsuite.optics.motion import blur_along_path, motion_kernel, shaken_path, straight_path


def test_blur_is_the_mean_of_the_image_shifted_along_the_path():
    image = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0)).double()
    normal = torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(1)).double()
    path_px = shaken_path(torch.tensor([5.0, 3.0]).double(), normal)
    blurred = blur_along_path(image, path_px)
    for item in range(2):
        for channel in range(3):
            shifted = [
                shift(image[item, channel].numpy(), (down, right), order=1, mode="nearest")
                for right, down in path_px[item].tolist()
            ]
            expected = np.mean(shifted, axis=0)
            assert np.abs(blurred[item, channel].numpy() - expected).max() < 1e-12


def test_a_straight_motion_over_whole_pixels_is_a_box():
    image = torch.rand(1, 3, 16, 31, generator=torch.Generator().manual_seed(0)).double()
    path_px = straight_path(torch.tensor([4.0]), torch.tensor([0.0]), points=5).double()
    expected = uniform_filter1d(image.numpy(), 5, axis=3, mode="nearest")
    assert np.allclose(blur_along_path(image, path_px).numpy(), expected, atol=1e-12)


def test_a_path_of_rest_leaves_the_image_and_a_kernel_sums_to_one():
    image = torch.rand(1, 3, 8, 9)
    assert torch.equal(blur_along_path(image, torch.zeros(1, 5, 2)), image)
    path_px = straight_path(torch.tensor([3.3, 7.0]), torch.tensor([0.4, 2.0]))
    assert motion_kernel(path_px, 4).sum((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-6)
    with pytest.raises(ValueError, match="within reach_px, 2"):
        motion_kernel(path_px, 2)


def test_lengths_are_as_they_were_asked_for():
    straight = straight_path(torch.tensor([6.0]), torch.tensor([math.pi / 3]))[0]
    assert (straight[-1] - straight[0]).norm().item() == pytest.approx(6)
    shaken = shaken_path(torch.tensor([6.0]), torch.randn(1, 33, 2))[0]
    assert (shaken.amax(0) - shaken.amin(0)).max().item() == pytest.approx(6, abs=1e-5)
