"""Few-step sampling and backward simulation (DMD2, arXiv 2405.14867, sec. 4.5).

Convention: a generator is any callable (noisy [b, c, h, w], t [b]) -> predicted noise; denoising
step k of `FEW_STEPS` adds noise of its own, step 0 starts from noise alone. Latents are kept in
float32 between the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones.codec import Codec
from dofsuite.diffusion import add_noise, draw_integer, draw_noise, x_from_noise
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser, no_gradient

FEW_STEPS = (999, 749, 499, 249)
"""Timesteps of the four-step generator (*stated* in DMD2)."""

Generator = Callable[[Tensor, Tensor], Tensor]
"""(noisy latents [b, c, h, w], timesteps [b]) -> predicted noise [b, c, h, w]."""

Draw = Callable[[int], Tensor]
"""Number of the step -> its fresh noise [b, c, h, w], on the generator's device."""


def step_index(seed: int, step: int, num_steps: int = len(FEW_STEPS)) -> int:
    """Draw k in {0, ..., num_steps - 1}, all equally likely, for training step `step`.

    It depends on nothing else, so all ranks run the same number of forwards without
    communication (DMD2 broadcasts it), and a resumed run draws the same.
    """
    return draw_integer(seed, step, "few-step index") % num_steps


def fresh_noise(
    shape: Sequence[int],
    seed: int,
    indices: Sequence[int],
    purpose: str,
    device: torch.device | str = "cpu",
) -> Draw:
    """Return each denoising step's noise: a function of (seed, sample index, purpose, step).

    Args:
        shape: One sample's latents, (c, h, w).
        seed: Of the run.
        indices: Global indices of the samples.
        purpose: What the samples are for; every use of a sample has its own.
        device: Of the returned noise; it is drawn on the CPU.
    """
    return lambda step: draw_noise(shape, seed, indices, f"{purpose}/{step}").to(device)


def times_of(noisy: Tensor, t: int) -> Tensor:
    """Return `t` for every sample."""
    return torch.full((len(noisy),), t, device=noisy.device)


def input_of_step(
    generator: Generator,
    draw: Draw,
    k: int,
    alphas_cumprod: Float[Tensor, "steps"],
    few_steps: Sequence[int] = FEW_STEPS,
) -> Float[Tensor, "b c h w"]:
    """Run steps 0 to k - 1 without gradient, and return the input of step k.

    Noise at step 0; after that the last x with new noise at the step's time. The draws of different
    steps are independent: where they are not, DMD2's samples show artifacts (its issue 9).
    """
    with no_gradient():
        noisy = draw(0)
        for i in range(k):
            t = times_of(noisy, few_steps[i])
            x = x_from_noise(noisy, generator(noisy, t), t, alphas_cumprod)
            noisy = add_noise(x, draw(i + 1), times_of(noisy, few_steps[i + 1]), alphas_cumprod)
    return noisy


def backward_simulation(
    generator: Generator,
    draw: Draw,
    k: int,
    alphas_cumprod: Float[Tensor, "steps"],
    few_steps: Sequence[int] = FEW_STEPS,
) -> Float[Tensor, "b c h w"]:
    """Return x of step k, as in inference: k calls without gradient, then one with it.

    Args:
        generator: The few-step generator.
        draw: Noise of each step, as from `fresh_noise`.
        k: Which denoising step is trained, the same on all ranks, as from `step_index`.
        alphas_cumprod: The noise schedule.
        few_steps: Timesteps of the generator, decreasing.
    """
    noisy = input_of_step(generator, draw, k, alphas_cumprod, few_steps)
    t = times_of(noisy, few_steps[k])
    return x_from_noise(noisy, generator(noisy, t), t, alphas_cumprod)


def sample(
    generator: Generator,
    draw: Draw,
    alphas_cumprod: Float[Tensor, "steps"],
    few_steps: Sequence[int] = FEW_STEPS,
) -> Float[Tensor, "b c h w"]:
    """Run all steps without gradient and return the last x: inference."""
    with no_gradient():
        return backward_simulation(generator, draw, len(few_steps) - 1, alphas_cumprod, few_steps)


def sample_image(
    denoiser: ConditionedDenoiser,
    draw: Draw,
    codec: Codec,
    few_steps: Sequence[int] = FEW_STEPS,
) -> Float[Tensor, "b 3 h w"]:
    """Sample and decode to display values in [0, 1]."""
    latent = sample(denoiser.noise, draw, denoiser.alphas_cumprod, few_steps)
    with no_gradient():
        return ((codec.decode(latent).float() + 1) / 2).clamp(0, 1)
