"""Many-step sampling of networks that are not distilled: DDIM (arXiv 2010.02502), deterministic.

Convention: as in `text2image.dmd2.sampling`, a generator is any callable (x_t [b, c, h, w], t [b])
-> predicted noise, with or without guidance.
"""

from jaxtyping import Float
from torch import Tensor

from dofsuite.diffusion import add_noise, x_from_noise
from dofsuite.text2image.dmd2.denoiser import no_gradient
from dofsuite.text2image.dmd2.sampling import Generator, times_of


def trailing_times(num_steps: int, num_train_steps: int = 1000) -> tuple[int, ...]:
    """Return T - i T / n - 1, rounded, for i in 0 to n - 1: evenly spaced from the last time on.

    "Trailing" spacing of arXiv 2305.08891, table 2: sampling begins at t = 999, on pure noise
    (*ours*; SDXL's own scheduler leaves the last times out). Four steps are `FEW_STEPS`.

    Raises:
        ValueError: `num_steps` is below 1 or above `num_train_steps`.

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
    """Sample x: x_s = sqrt(a_s) x + sqrt(1 - a_s) eps, x = (x_t - sqrt(1 - a_t) eps) / sqrt(a_t).

    Eq. 12 of the paper with eta = 0 (*ours*, so that images of other settings differ by the
    settings alone). After the last step a_s = 1, so x itself is returned. No gradient.

    Args:
        generator: The denoiser, conditioning bound.
        noise: Standard normal, the latents at the first step.
        alphas_cumprod: The noise schedule.
        num_steps: Number of denoiser calls.
    """
    with no_gradient():
        x_t = noise
        times = trailing_times(num_steps, len(alphas_cumprod))
        for i, t in enumerate(times):
            eps = generator(x_t, times_of(x_t, t))
            x = x_from_noise(x_t, eps, times_of(x_t, t), alphas_cumprod)
            if i + 1 < num_steps:
                x_t = add_noise(x, eps, times_of(x_t, times[i + 1]), alphas_cumprod)
    return x
