"""Backward simulation on recording networks; sampling against diffusers and closed forms."""

from __future__ import annotations

import pytest
import torch
from diffusers import LCMScheduler
from scipy import stats
from torch import Tensor

from dofsuite.backbones.sdxl.unet_calls import predict
from dofsuite.diffusion import draw_noise
from dofsuite.text2image.dmd2.sampling import (
    FEW_STEPS,
    backward_simulation,
    fresh_noise,
    sample,
    step_index,
)
from tests.noise_of_clean import noise_from_x
from tests.text2image.recorder import ALPHAS, SHAPE, Recorder
from tests.text2image.tiny_unet import inputs, tiny_unet


def x_by_hand(noisy: Tensor, noise: Tensor, t: int) -> Tensor:
    a = ALPHAS[t].item()
    return (noisy - (1 - a) ** 0.5 * noise) / a**0.5


@pytest.mark.parametrize("k", range(4))
def test_step_k_gets_the_generators_own_output_with_fresh_noise(k):
    generator, draw = Recorder(), fresh_noise(SHAPE, 3, [10, 11], "simulation")
    x = backward_simulation(generator, draw, k, ALPHAS)
    assert [t for _, t, _ in generator.calls] == list(FEW_STEPS[: k + 1])
    assert torch.equal(generator.calls[0][0], draw(0))
    for i in range(k):
        noisy, t, noise = generator.calls[i]
        a = ALPHAS[FEW_STEPS[i + 1]].item()
        expected = a**0.5 * x_by_hand(noisy, noise, t) + (1 - a) ** 0.5 * draw(i + 1)
        torch.testing.assert_close(generator.calls[i + 1][0], expected, atol=1e-5, rtol=1e-5)
    noisy, t, noise = generator.calls[k]
    torch.testing.assert_close(x, x_by_hand(noisy, noise, t), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("k", range(4))
def test_only_the_last_call_is_graded(k):
    generator = Recorder()
    x = backward_simulation(generator, fresh_noise(SHAPE, 3, [10, 11], "simulation"), k, ALPHAS)
    assert [noise.requires_grad for _, _, noise in generator.calls] == [False] * k + [True]
    (found,) = torch.autograd.grad(x.square().sum(), generator.layer.weight)
    noisy, t, _ = generator.calls[k]
    alone = x_by_hand(noisy, generator(noisy, torch.full((2,), t)), t).square().sum()
    (expected,) = torch.autograd.grad(alone, generator.layer.weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_every_steps_noise_is_fresh_and_belongs_to_its_sample():
    draw = fresh_noise(SHAPE, 3, range(400), "simulation")
    steps = [draw(i).flatten() for i in range(4)]
    correlation = torch.corrcoef(torch.stack(steps)) - torch.eye(4)
    assert correlation.abs().max() < 5 / len(steps[0]) ** 0.5
    assert torch.equal(draw(2)[7], fresh_noise(SHAPE, 3, [7], "simulation")(2)[0])
    assert not torch.equal(draw(2)[7], fresh_noise(SHAPE, 3, [7], "critic")(2)[0])


def test_a_sample_is_simulated_the_same_in_any_batch():
    together = backward_simulation(
        Recorder(), fresh_noise(SHAPE, 3, [4, 5, 6], "simulation"), 2, ALPHAS
    )
    alone = backward_simulation(Recorder(), fresh_noise(SHAPE, 3, [5], "simulation"), 2, ALPHAS)
    torch.testing.assert_close(together[1], alone[0])


def test_the_step_index_is_uniform_over_training_and_differs_between_seeds():
    drawn = [step_index(0, step) for step in range(4000)]
    assert stats.chisquare([drawn.count(k) for k in range(4)]).pvalue > 1e-3
    pairs = [4 * a + b for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    assert stats.chisquare([pairs.count(k) for k in range(16)]).pvalue > 1e-3
    assert drawn != [step_index(1, step) for step in range(4000)]


def test_the_exact_denoiser_of_a_point_is_sampled_to_that_point():
    point = draw_noise(SHAPE, 0, [0, 0, 0], "point")
    found = sample(
        lambda noisy, t: noise_from_x(noisy, point, t, ALPHAS),
        fresh_noise(SHAPE, 1, [0, 1, 2], "s"),
        ALPHAS,
    )
    torch.testing.assert_close(found, point, atol=1e-5, rtol=1e-5)


def test_sampling_is_that_of_diffusers_lcm_scheduler_as_dmd2_runs_it():
    generator, draw = Recorder(), fresh_noise(SHAPE, 1, [0, 1], "s")
    scheduler = LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(timesteps=list(FEW_STEPS), device="cpu", original_inference_steps=50)
    latents = draw(0)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        for i, t in enumerate(scheduler.timesteps):
            module = "diffusers.schedulers.scheduling_lcm.randn_tensor"
            patch.setattr(module, lambda shape, i=i, **placement: draw(i + 1))
            latents, last = scheduler.step(
                generator(latents, t[None].repeat(2)), t, latents, return_dict=False
            )
    torch.testing.assert_close(sample(generator, draw, ALPHAS), last, atol=1e-4, rtol=1e-4)


def test_simulation_in_bfloat16_leaves_every_weight_its_gradient():
    unet, (_, _, prompt) = tiny_unet(), inputs(2)
    draw = fresh_noise((4, 8, 8), 0, [0, 1], "simulation")
    with torch.autocast("cpu", torch.bfloat16):
        x = backward_simulation(
            lambda noisy, t: predict(unet, noisy, t, type(prompt)(*prompt)), draw, 3, ALPHAS
        )
    x.square().mean().backward()
    assert x.dtype == torch.float32
    assert min(p.grad.abs().max().item() for p in unet.parameters()) > 0


def test_simulation_uses_a_weight_that_changed_since_the_last_one():
    unet, (_, _, prompt) = tiny_unet(), inputs(2)
    draw = fresh_noise((4, 8, 8), 0, [0, 1], "simulation")
    with torch.autocast("cpu", torch.bfloat16):
        before = sample(lambda noisy, t: predict(unet, noisy, t, prompt), draw, ALPHAS)
        with torch.no_grad():
            unet.conv_out.weight.add_(1)
        after = sample(lambda noisy, t: predict(unet, noisy, t, prompt), draw, ALPHAS)
    assert not torch.allclose(before, after, rtol=0.01)
