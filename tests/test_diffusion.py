"""Rectified flow and SDXL's diffusion against closed forms and diffusers; draws of seed, index and
purpose alone.
"""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from scipy import stats

from dofsuite.diffusion import (
    TimestepSampling,
    add_noise,
    draw_integer,
    draw_noise,
    draw_times,
    draw_uniform,
    euler_times,
    interpolate,
    noise_from_v,
    sample_generator,
    scaled_linear_alphas_cumprod,
    shift_time,
    velocity,
    x_from_noise,
)
from tests.noise_of_clean import noise_from_x


def test_a_sample_draws_the_same_in_any_batch():
    together = draw_noise((2, 3), 7, [5, 6, 7], "noise")
    alone = draw_noise((2, 3), 7, [6], "noise")
    assert torch.equal(together[1], alone[0])


@pytest.mark.parametrize("other", [(1, 2, "noise"), (0, 3, "noise"), (0, 2, "time")])
def test_seed_index_and_purpose_each_change_the_draw(other):
    first = torch.rand(4, generator=sample_generator(0, 2, "noise"))
    assert not torch.equal(first, torch.rand(4, generator=sample_generator(*other)))


def test_draws_over_indices_are_uniform_and_normal():
    uniform = draw_uniform(0, range(4000), "u", 1).numpy().ravel()
    normal = draw_noise((1,), 0, range(4000), "n").numpy().ravel()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert stats.kstest(normal, "norm").pvalue > 1e-3


def test_logit_normal_times_follow_their_distribution():
    t = draw_times(TimestepSampling(mean=0.3, std=0.7), 0, range(4000)).double().numpy()
    assert stats.kstest(np.log(t / (1 - t)), stats.norm(0.3, 0.7).cdf).pvalue > 1e-3


def test_the_path_starts_at_the_image_ends_at_noise_and_moves_with_its_velocity():
    x, noise = (
        torch.randn(2, 3, 4, 4, dtype=torch.float64),
        torch.randn(2, 3, 4, 4, dtype=torch.float64),
    )
    assert torch.equal(interpolate(x, noise, torch.zeros(2, dtype=torch.float64)), x)
    assert torch.equal(interpolate(x, noise, torch.ones(2, dtype=torch.float64)), noise)
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    step = (interpolate(x, noise, t + 1e-3) - interpolate(x, noise, t)) / 1e-3
    assert torch.allclose(step, velocity(x, noise), atol=1e-9)


def test_euler_times_are_the_sigmas_of_the_stock_scheduler():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 8, 8))
    assert torch.allclose(euler_times(8, 3.0), scheduler.sigmas, atol=1e-6)


def test_a_shift_keeps_the_ends_and_moves_the_middle_to_noise():
    t = shift_time(torch.tensor([0.0, 0.5, 1.0]), 3.0)
    assert torch.allclose(t, torch.tensor([0.0, 0.75, 1.0]))


@pytest.mark.parametrize("wrong", [{"shift": 0.0}, {"std": -1.0}])
def test_wrong_numbers_are_rejected_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TimestepSampling(**wrong)


def test_integers_are_uniform_in_every_remainder():
    drawn = np.array([draw_integer(0, index, "k") for index in range(4000)])
    assert stats.chisquare(np.bincount(drawn % 5)).pvalue > 1e-3
    assert stats.kstest(drawn / 2.0**63, "uniform").pvalue > 1e-3


@pytest.fixture
def sdxl() -> DDPMScheduler:
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )


def test_the_scaled_linear_schedule_is_that_of_the_stock_scheduler(sdxl):
    alphas_cumprod = scaled_linear_alphas_cumprod()
    assert alphas_cumprod.dtype == torch.float64
    assert torch.allclose(alphas_cumprod.float(), sdxl.alphas_cumprod, rtol=1e-4)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    np.testing.assert_allclose(alphas_cumprod.numpy(), np.cumprod(1 - betas), rtol=1e-12)


def test_noising_and_the_way_back_are_those_of_the_stock_scheduler(sdxl):
    x, noise = torch.randn(4, 3, 5, 6), torch.randn(4, 3, 5, 6)
    t = torch.tensor([0, 249, 600, 999])
    alphas_cumprod = scaled_linear_alphas_cumprod()
    noisy = add_noise(x, noise, t, alphas_cumprod)
    torch.testing.assert_close(noisy, sdxl.add_noise(x, noise, t), atol=1e-5, rtol=1e-5)
    predicted = torch.randn(4, 3, 5, 6)
    found = x_from_noise(noisy, predicted, t, alphas_cumprod)
    for row, time in enumerate(t):
        expected = sdxl.step(predicted[row], time, noisy[row]).pred_original_sample
        torch.testing.assert_close(found[row], expected, atol=1e-3, rtol=1e-4)


def test_v_is_that_of_the_stock_scheduler():
    stock = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    x, noise = torch.randn(4, 3, 5, 6), torch.randn(4, 3, 5, 6)
    t, alphas_cumprod = torch.tensor([0, 249, 600, 999]), scaled_linear_alphas_cumprod()
    v = stock.get_velocity(x, noise, t)
    noisy = add_noise(x, noise, t, alphas_cumprod)
    torch.testing.assert_close(
        noise_from_v(noisy, v, t, alphas_cumprod), noise, atol=1e-5, rtol=1e-5
    )
    wrong = noise_from_v(noisy, v + 1, t, alphas_cumprod) - noise
    torch.testing.assert_close(
        wrong[:, 0, 0, 0], alphas_cumprod[t].sqrt().float(), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 2e-5)]
)
def test_x_and_noise_are_recovered_from_each_other_at_every_time(dtype, atol):
    alphas_cumprod, t = scaled_linear_alphas_cumprod(), torch.arange(1000)
    x, noise = torch.randn(1000, 2, 3).to(dtype), torch.randn(1000, 2, 3).to(dtype)
    noisy = add_noise(x, noise, t, alphas_cumprod)
    returned = torch.float64 if dtype == torch.float64 else torch.float32
    assert noisy.dtype == returned
    torch.testing.assert_close(
        x_from_noise(noisy, noise, t, alphas_cumprod), x.to(returned), atol=atol, rtol=0
    )
    # At t = 0 the noise weighs 0.03: what the sum lost of it comes back 34 times larger.
    torch.testing.assert_close(
        noise_from_x(noisy, x, t, alphas_cumprod), noise.to(returned), atol=atol, rtol=0
    )
