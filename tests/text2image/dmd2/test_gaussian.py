"""Distribution matching where the answer is known: Gaussian data, exact Gaussian scores, an affine
generator.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dofsuite.diffusion import add_noise, scaled_linear_alphas_cumprod, x_from_noise
from dofsuite.text2image.dmd2.losses import distribution_matching_loss
from tests.noise_of_clean import noise_from_x

ALPHAS = scaled_linear_alphas_cumprod()
Score = Callable[[Tensor, Tensor], Tensor]


def gaussian_noise_prediction(mean: Tensor, covariance: Tensor) -> Score:
    """eps(x_t, t) of Gaussian data: E[x | x_t] = m + sqrt(a) S (a S + (1 - a) I)^-1 (x_t - sqrt(a)
    m), as noise.
    """
    variance, axes = torch.linalg.eigh(covariance)

    def predict(noisy: Tensor, t: Tensor) -> Tensor:
        a = ALPHAS[t][:, None]
        gain = a.sqrt() * variance / (a * variance + 1 - a)
        return noise_from_x(
            noisy, mean + ((noisy - a.sqrt() * mean) @ axes * gain) @ axes.T, t, ALPHAS
        )

    return predict


def data_of(dim: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance, with correlations and standard deviations between about 0.4 and 2."""
    generator = torch.Generator().manual_seed(dim)
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    deviations = torch.linspace(0.4, 2.0, dim, dtype=torch.float64)
    return torch.randn(
        dim, generator=generator, dtype=torch.float64
    ) * 2, axes @ deviations.square().diag() @ axes.T


def errors_after_training(
    dim: int, fake_follows: bool, steps: int = 800, batch: int = 256
) -> tuple[float, float]:
    """Train x = W z + b by the matching loss, guidance 1; return the relative errors of mean and
    covariance.
    """
    mean, covariance = data_of(dim)
    real = gaussian_noise_prediction(mean, covariance)
    weight = torch.eye(dim, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(dim, dtype=torch.float64, requires_grad=True)
    fake = gaussian_noise_prediction(bias.detach().clone(), weight.detach().clone())
    optimizer = torch.optim.Adam([weight, bias], lr=0.02)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        z, noise = torch.randn(2, batch, dim, generator=generator, dtype=torch.float64)
        t = torch.randint(20, 981, (batch,), generator=generator)
        x = z @ weight.T + bias
        if fake_follows:
            fake = gaussian_noise_prediction(bias.detach(), (weight @ weight.T).detach())
        noisy = add_noise(x.detach(), noise, t, ALPHAS)
        x_real, x_fake = (x_from_noise(noisy, score(noisy, t), t, ALPHAS) for score in (real, fake))
        optimizer.zero_grad()
        distribution_matching_loss(x, x_real, x_fake).backward()
        optimizer.step()
        decay.step()
    found = weight.detach() @ weight.detach().T
    return ((bias - mean).norm() / mean.norm()).item(), (
        (found - covariance).norm() / covariance.norm()
    ).item()


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_the_generator_takes_the_mean_and_covariance_of_the_data(dim):
    error_of_mean, error_of_covariance = errors_after_training(dim, fake_follows=True)
    assert error_of_mean < 0.005
    assert error_of_covariance < 0.005


def test_it_does_not_where_the_fake_score_stays_that_of_the_first_generator():
    error_of_mean, error_of_covariance = errors_after_training(3, fake_follows=False)
    assert error_of_mean > 0.05
    assert error_of_covariance > 0.05
