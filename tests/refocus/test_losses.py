"""The losses against loops and against the identities of eqs. (2) to (5)."""

import math

import pytest
import torch

from dofsuite.diffusion import interpolate, velocity
from dofsuite.optics import stack_images
from dofsuite.refocus.losses import Stacking, flow_loss, mean_norm, stacking_loss


@pytest.fixture
def latents():
    generator = torch.Generator().manual_seed(0)
    x1, x2, noise = (
        torch.randn(2, 4, 6, 6, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    mask = torch.rand(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    return x1, x2, noise, mask


def test_the_flow_loss_is_a_mean_of_squares():
    prediction, target = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    squares = [
        (p - t) ** 2
        for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True)
    ]
    assert flow_loss(prediction, target).item() == pytest.approx(
        sum(squares) / len(squares), rel=1e-5
    )


def test_the_plain_norm_is_each_sample_s_root_mean_square():
    residual = torch.randn(3, 2, 2, 2)
    roots = [math.sqrt(sum(v * v for v in sample.flatten().tolist()) / 8) for sample in residual]
    assert mean_norm(residual, "plain").item() == pytest.approx(sum(roots) / 3, rel=1e-5)


@pytest.mark.parametrize("norm", ["squared", "plain"])
def test_perfect_velocities_make_the_stacking_loss_zero(latents, norm):
    x1, x2, noise, mask = latents
    v_stack = velocity(stack_images(mask, x1, x2), noise)
    loss = stacking_loss(velocity(x1, noise), velocity(x2, noise), mask, v_stack, norm)
    assert loss.item() < 1e-15


def test_the_noisy_stack_is_the_stack_of_the_noisy_latents(latents):
    x1, x2, noise, mask = latents
    t = torch.tensor([0.3, 0.9], dtype=torch.float64)
    stacked = stack_images(mask, interpolate(x1, noise, t), interpolate(x2, noise, t))
    assert torch.allclose(stacked, interpolate(stack_images(mask, x1, x2), noise, t), atol=1e-14)


def test_with_own_latents_the_residual_is_the_masked_flow_residuals(latents):
    x1, x2, noise, mask = latents
    f1, f2 = torch.randn_like(x1), torch.randn_like(x2)
    v1, v2 = velocity(x1, noise), velocity(x2, noise)
    v_stack = velocity(stack_images(mask, x1, x2), noise)
    masked = mask * (v1 - f1) + (1 - mask) * (v2 - f2)
    assert stacking_loss(f1, f2, mask, v_stack).item() == pytest.approx(
        masked.square().mean().item(), rel=1e-12
    )


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="weight"):
        Stacking(weight=-0.1)
