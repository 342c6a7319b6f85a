"""Rectified flow against closed forms, and draws that depend on nothing but seed, index and purpose."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from scipy import stats

from dofsuite.diffusion import (
    TimeSampling,
    draw_noise,
    draw_times,
    draw_uniform,
    euler_times,
    interpolate,
    sample_generator,
    shift_time,
    velocity,
)


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
    t = draw_times(TimeSampling(mean=0.3, std=0.7), 0, range(4000)).double().numpy()
    assert stats.kstest(np.log(t / (1 - t)), stats.norm(0.3, 0.7).cdf).pvalue > 1e-3


def test_the_path_starts_at_the_image_ends_at_noise_and_moves_with_its_velocity():
    x, noise = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
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
def test_wrong_numbers_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TimeSampling(**wrong)
