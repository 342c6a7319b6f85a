import cv2
import numpy as np
import pytest
import torch

from dofsuite.optics import (
    downsample_mask,
    laplacian,
    laplacian_sharpness,
    render_bokeh,
    stack_images,
    stack_mask,
)


@pytest.mark.parametrize("size", [(9, 7), (1, 6), (2, 2), (1, 1)])
def test_laplacian_is_opencv_s(size):
    image = np.random.default_rng(0).random(size)
    expected = cv2.Laplacian(image, cv2.CV_64F, ksize=1)
    assert np.allclose(laplacian(torch.from_numpy(image)).numpy(), expected)


def test_sharpness_is_the_absolute_laplacian_of_luma():
    image = torch.rand(2, 3, 8, 9)
    luma = 0.299 * image[:, :1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:]
    assert torch.allclose(laplacian_sharpness(image), laplacian(luma).abs(), atol=1e-6)


def test_mask_marks_the_sharper_image_and_a_tie_is_the_second_s():
    sharp = torch.rand(1, 3, 16, 16)
    flat = torch.full_like(sharp, 0.5)
    assert stack_mask(sharp, flat).mean() > 0.95
    assert stack_mask(flat, sharp).max() == 0
    assert stack_mask(sharp, sharp).max() == 0


def test_stack_of_one_is_the_photograph():
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(stack_images(stack_mask(image, image), image, image), image)


def test_stacking_two_focal_planes_restores_the_sharp_image():
    # left half near, right half far: focused on each in turn, the stack is sharp in both
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    disparity = torch.zeros(1, 1, 32, 64)
    disparity[..., :32] = 1.0
    near = render_bokeh(image, 6 * (disparity - 1), method="exact")
    far = render_bokeh(image, 6 * disparity, method="exact")
    stacked = stack_images(stack_mask(near, far), near, far)
    inside = [
        slice(0, 24),
        slice(40, 64),
    ]  # away from the seam, where blur of one half lies on the other
    for columns in inside:
        error = (stacked - image)[..., columns].abs().mean()
        blurred = max((shown - image)[..., columns].abs().mean() for shown in (near, far))
        assert error < 0.15 * blurred


def test_downsampled_mask_is_soft_bilinear_and_antialias_takes_the_whole_block():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8, 3:5] = 1  # columns 3 and 4 are the middle of the first block of 8
    plain, averaged = downsample_mask(mask, (2, 2)), downsample_mask(mask, (2, 2), antialias=True)
    assert plain[0, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert 0.2 < averaged[0, 0, 0, 0] < 0.35


def test_latent_stack_by_a_soft_mask_is_linear():
    mask = torch.rand(1, 1, 4, 4)
    first, second = torch.rand(2, 1, 16, 4, 4)
    assert torch.allclose(stack_images(mask, first, second), second + mask * (first - second))
