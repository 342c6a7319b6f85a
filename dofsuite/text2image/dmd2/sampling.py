"""Few-step sampling and backward simulation (DMD2, arXiv 2405.14867, sec. 4.5).

Convention: a generator is any callable (x_t [b, c, h, w], t [b]) -> predicted noise. Step 0 of
`FEW_STEPS` starts from pure noise; step k adds fresh noise of its own to the x0 prediction of step
k - 1. Latents are kept in float32 between the steps.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones.codec import Codec
from dofsuite.diffusion import add_noise, draw_integer, draw_noise, to_device, x_from_noise
from dofsuite.text2image.dmd2.denoiser import ConditionedDenoiser, no_gradient

# Timesteps of the four-step generator (*stated* in DMD2).
FEW_STEPS = (999, 749, 499, 249)

# (x_t [b, c, h, w], timesteps [b]) -> predicted noise [b, c, h, w].
Generator = Callable[[Tensor, Tensor], Tensor]

# Denoising step -> its fresh noise [b, c, h, w], on the generator's device.
Draw = Callable[[int], Tensor]


def step_index(seed: int, step: int, num_steps: int = len(FEW_STEPS)) -> int:
    """Draw the denoising step k, uniform in {0, ..., num_steps - 1}, for training step `step`.

    It depends on seed and step alone, so all ranks run the same number of forwards without a
    broadcast (DMD2 broadcasts it), and a resumed run draws the same.
    """
    return draw_integer(seed, step, "few-step index") % num_steps


def fresh_noise(
    shape: Sequence[int],
    seed: int,
    indices: Sequence[int],
    purpose: str,
    device: torch.device | str = "cpu",
) -> Draw:
    """Return each step's noise as a function of (seed, global sample index, purpose, step).

    Args:
        shape: One sample's latent, (c, h, w).
        seed: Of the run.
        indices: Global indices of the samples.
        purpose: Distinguishes independent draws for the same sample.
        device: Where the noise is moved to; it is drawn on the CPU.
    """
    return lambda step: to_device(draw_noise(shape, seed, indices, f"{purpose}/{step}"), device)


def times_of(noisy: Tensor, t: int) -> Tensor:
    """Return timestep `t` for every sample, [b]."""
    return torch.full((len(noisy),), t, device=noisy.device)


def input_of_step(
    generator: Generator,
    draw: Draw,
    k: int,
    alphas_cumprod: Float[Tensor, "steps"],
    few_steps: Sequence[int] = FEW_STEPS,
) -> Float[Tensor, "b c h w"]:
    """Run steps 0 to k - 1 without gradient and return the input x_t of step k.

    Step 0 starts from pure noise; each next input is the last x0 prediction with fresh noise. The
    draws of different steps are independent: otherwise DMD2's samples show artifacts (its issue 9).
    """
    with no_gradient():
        noisy = draw(0)
        for i in range(k):
            t, next_t = times_of(noisy, few_steps[i]), times_of(noisy, few_steps[i + 1])
            x = x_from_noise(noisy, generator(noisy, t), t, alphas_cumprod)
            noisy = add_noise(x, draw(i + 1), next_t, alphas_cumprod)
    return noisy


def backward_simulation(
    generator: Generator,
    draw: Draw,
    k: int,
    alphas_cumprod: Float[Tensor, "steps"],
    few_steps: Sequence[int] = FEW_STEPS,
) -> Float[Tensor, "b c h w"]:
    """Return the x0 prediction of step k, reached as in inference.

    k calls without gradient, then one with it (unless the caller disabled gradients).

    Args:
        generator: The few-step generator, conditioning bound.
        draw: Noise of each step, as from `fresh_noise`.
        k: Which step is trained, the same on all ranks, as from `step_index`.
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
    """Run all steps without gradient and return the last x0 prediction: inference."""
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
