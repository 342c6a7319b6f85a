"""Each loss against its formula, written out in NumPy in float64, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from dofsuite.text2image.dmd2.losses import (
    denoising_loss,
    distribution_matching_gradient,
    distribution_matching_loss,
    focus_loss,
    gan_critic_loss,
    gan_generator_loss,
    guide,
)


def latents(count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64).to(dtype)
        for _ in range(count)
    ]


def gradient_in_numpy(x: np.ndarray, x_real: np.ndarray, x_fake: np.ndarray) -> np.ndarray:
    p_real, p_fake = x - x_real, x - x_fake
    return np.stack(
        [(real - fake) / np.abs(real).mean() for real, fake in zip(p_real, p_fake, strict=True)]
    )


def test_the_matching_gradient_is_the_papers():
    x, x_real, x_fake = latents(3)
    expected = gradient_in_numpy(x.numpy(), x_real.numpy(), x_fake.numpy())
    np.testing.assert_allclose(
        distribution_matching_gradient(x, x_real, x_fake).numpy(), expected, atol=1e-12
    )


def test_the_matching_loss_is_the_papers_and_its_gradient_is_the_matching_gradient_over_numel():
    x, x_real, x_fake = latents(3)
    expected = gradient_in_numpy(x.numpy(), x_real.numpy(), x_fake.numpy())
    x_real.requires_grad_(), x_fake.requires_grad_()
    loss = distribution_matching_loss(x.requires_grad_(), x_real, x_fake)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * (expected**2).mean(), rel=1e-10)
    np.testing.assert_allclose(x.grad.numpy(), expected / expected.size, atol=1e-12)
    assert x_real.grad is None
    assert x_fake.grad is None


def test_a_sample_that_the_real_score_leaves_as_it_is_gets_a_finite_gradient():
    x, _, x_fake = latents(3)
    gradient = distribution_matching_gradient(x, x.clone(), x_fake, floor=1e-3)
    assert torch.allclose(gradient, (x_fake - x) / 1e-3)
    assert torch.equal(distribution_matching_gradient(x, x.clone(), x.clone()), torch.zeros_like(x))


def test_one_samples_scale_does_not_reach_another_sample():
    x, x_real, x_fake = latents(3)
    before = distribution_matching_gradient(x, x_real, x_fake)
    x_real[2] *= 100
    after = distribution_matching_gradient(x, x_real, x_fake)
    assert torch.equal(before[:2], after[:2])
    assert not torch.allclose(before[2], after[2])


def test_a_broken_score_is_not_hidden():
    x, x_real, x_fake = latents(3)
    x_fake[1, 0, 0, 0] = torch.nan
    assert distribution_matching_loss(x, x_real, x_fake).isnan()


def test_the_denoising_loss_is_the_mean_squared_error():
    prediction, noise = latents(2)
    expected = ((prediction.numpy() - noise.numpy()) ** 2).mean()
    assert denoising_loss(prediction, noise).item() == pytest.approx(expected, rel=1e-12)


def test_the_weighted_denoising_loss_is_the_error_of_v():
    """Of v = sqrt(a) eps - sqrt(1 - a) x, for a prediction of v and what it says of eps."""
    x, noise, predicted_v = latents(3)
    a = torch.tensor([0.9, 0.3, 0.0047], dtype=torch.float64)[: len(x)].reshape(
        -1, *[1] * (x.ndim - 1)
    )
    noisy, v = a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x
    predicted_noise = (1 - a).sqrt() * noisy + a.sqrt() * predicted_v
    expected = ((predicted_v - v).numpy() ** 2).mean()
    assert denoising_loss(predicted_noise, noise, 1 / a.flatten()).item() == pytest.approx(
        expected, rel=1e-9
    )


def test_the_gan_losses_are_cross_entropies_of_a_logistic_judge():
    real, fake = torch.randn(5, dtype=torch.float64) * 4, torch.randn(3, dtype=torch.float64) * 4
    critic = -special.log_expit(real.numpy()).mean() - special.log_expit(-fake.numpy()).mean()
    assert gan_critic_loss(real, fake).item() == pytest.approx(critic, rel=1e-9)
    assert gan_generator_loss(fake).item() == pytest.approx(
        -special.log_expit(fake.numpy()).mean(), rel=1e-9
    )


@pytest.mark.parametrize("delta", [0.3, 1.0, 5.0])
def test_the_focus_loss_is_hubers_and_its_target_is_constant(delta):
    focus, target = (torch.rand(50, dtype=torch.float64) * 6 for _ in range(2))
    expected = special.huber(delta, (focus - target).numpy()).mean()
    loss = focus_loss(focus.requires_grad_(), target.requires_grad_(), delta)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert focus.grad.abs().max() > 0
    assert target.grad is None


@pytest.mark.parametrize("guidance", [0.0, 1.0, 8.0])
def test_guidance_moves_along_the_difference(guidance):
    unconditional, conditional = latents(2)
    expected = (1 - guidance) * unconditional.numpy() + guidance * conditional.numpy()
    np.testing.assert_allclose(
        guide(unconditional, conditional, guidance).numpy(), expected, atol=1e-12
    )


LOSSES = {
    "matching": lambda a, b, c: distribution_matching_loss(a, b, c),
    "denoising": lambda a, b, c: denoising_loss(a, b),
    "generator": lambda a, b, c: gan_generator_loss(a.flatten()),
    "critic": lambda a, b, c: gan_critic_loss(a.flatten(), b.flatten()),
    "focus": lambda a, b, c: focus_loss(a.flatten(), b.flatten()),
    "guide": lambda a, b, c: guide(a, b, 8.0).mean(),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_bfloat16_is_computed_in_float32_and_float64_stays(loss):
    halves = latents(3, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        short = loss(*halves)
    exact = loss(*(half.double() for half in halves))
    assert short.dtype == torch.float32
    assert exact.dtype == torch.float64
    assert short.item() == pytest.approx(exact.item(), rel=1e-6)
