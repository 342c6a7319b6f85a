import numpy as np
import pytest
import torch

from dofsuite.optics import (
    display_to_linear,
    linear_to_display,
    linear_to_srgb,
    srgb_to_linear,
    srgb_to_luma,
)


def test_srgb_matches_the_standard_at_known_values():
    # IEC 61966-2-1: the two branches, their meeting point, and middle gray
    srgb = torch.tensor([0.0, 0.02, 0.04045, 0.5, 1.0], dtype=torch.float64)
    linear = torch.tensor([0.0, 0.02 / 12.92, 0.0031308, 0.21404114, 1.0], dtype=torch.float64)
    assert torch.allclose(srgb_to_linear(srgb), linear, atol=1e-7)


def test_srgb_agrees_with_scikit_image():
    color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(0).random((1, 4, 5, 3))
    # its rgb2xyz starts with the same transfer curve; gray pixels keep luminance = linear value
    gray = np.repeat(rgb[..., :1], 3, axis=-1)
    ours = srgb_to_linear(torch.from_numpy(gray[..., 0])).numpy()
    assert np.allclose(color.rgb2xyz(gray)[..., 1], ours, atol=1e-6)


@pytest.mark.parametrize("gamma", [1, 2.2, 4])
def test_powers_are_a_round_trip_and_finite_at_zero(gamma):
    values = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
    back = linear_to_display(display_to_linear(values, gamma), gamma)
    assert torch.allclose(back, values, atol=1e-12)
    linear_to_display(values, gamma).sum().backward()
    assert torch.isfinite(values.grad).all()


def test_srgb_is_a_round_trip_with_finite_gradients_below_zero_too():
    values = torch.linspace(-0.2, 1.2, 141, dtype=torch.float64, requires_grad=True)
    back = linear_to_srgb(srgb_to_linear(values))
    assert torch.allclose(back, values, atol=1e-6)
    back.sum().backward()
    assert torch.isfinite(values.grad).all()


def test_luma_is_opencv_gray():
    cv2 = pytest.importorskip("cv2")
    rgb = np.random.default_rng(0).random((7, 5, 3), dtype=np.float32)
    ours = srgb_to_luma(torch.from_numpy(rgb).permute(2, 0, 1))[0].numpy()
    assert np.allclose(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), ours, atol=1e-6)
