"""Sampling in many steps, for networks that are not distilled: DDIM (arXiv 2010.02502), without fresh noise.

Convention: as in `sampling`, a generator is any callable (noisy [b, c, h, w], t [b]) -> predicted
noise; guidance is its own matter. The result is a function of the first noise alone.
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from dofsuite.diffusion import add_noise, x_from_noise
from dofsuite.text2image.dmd2.denoiser import no_gradient
from dofsuite.text2image.dmd2.sampling import Generator, times_of


def trailing_times(num_steps: int, num_train_steps: int = 1000) -> tuple[int, ...]:
    """Return T - i T / n - 1, rounded, for i in 0 to n - 1: evenly spaced, and from the last time on.

    The spacing of arXiv 2305.08891, table 2: sampling begins at t = 999, where noise alone comes in
    (*ours*; SDXL's own scheduler leaves the last times out). Four steps are `FEW_STEPS`.

    Raises:
        ValueError: on fewer steps than one, or more than there are.

    Example:
        >>> trailing_times(4)
        (999, 749, 499, 249)
    """
    if not 1 <= num_steps <= num_train_steps:
        raise ValueError(f"steps must lie between 1 and {num_train_steps}, not {num_steps}")
    return tuple(
        round(num_train_steps - i * num_train_steps / num_steps) - 1 for i in range(num_steps)
    )


def ddim(
    generator: Generator,
    noise: Float[Tensor, "b c h w"],
    alphas_cumprod: Float[Tensor, "steps"],
    num_steps: int,
) -> Float[Tensor, "b c h w"]:
    """Walk from noise to x: x_s = sqrt(a_s) x + sqrt(1 - a_s) eps, x = (x_t - sqrt(1 - a_t) eps) / sqrt(a_t) (eq. 12).

    With eta = 0 (*ours*, so that pictures of other settings differ by the settings alone); after
    the last step a_s = 1, which leaves x itself. No gradient.

    Args:
        generator: The network with everything but latents and time filled in, guided or not.
        noise: Standard normal, the latents at the first step.
        alphas_cumprod: The schedule.
        num_steps: Calls of the network.
    """
    with no_gradient():
        noisy = noise
        for t, following in pairwise((*trailing_times(num_steps, len(alphas_cumprod)), None)):
            predicted = generator(noisy, times_of(noisy, t))
            x = x_from_noise(noisy, predicted, times_of(noisy, t), alphas_cumprod)
            noisy = (
                x
                if following is None
                else add_noise(x, predicted, times_of(noisy, following), alphas_cumprod)
            )
    return noisy
