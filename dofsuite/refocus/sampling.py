"""From noise to the refocused latent: Euler steps along the learnt velocity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(noisy latent [b, c, h, w], flow time [b]) -> velocity [b, c, h, w]."""


@torch.no_grad()
def euler(
    velocity: Velocity,
    noise: Float[Tensor, "b c h w"],
    times: Float[Tensor, "steps"],
    after_step: Callable[[int, Tensor], Tensor] | None = None,
) -> Float[Tensor, "b c h w"]:
    """Integrate dx/dt = v(x, t) from the first time to the last.

    Args:
        velocity: The model with everything but latent and time filled in.
        noise: The latent at `times[0]`.
        times: Decreasing flow times, 1 to 0; as `diffusion.euler_times` or a stock scheduler's
            `sigmas`.
        after_step: (number of the step, its latent) -> the latent to go on with.
    """
    latent = noise
    for step, (now, then) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        t = torch.full((len(latent),), now, device=latent.device)
        latent = latent + (then - now) * velocity(latent, t)
        if after_step is not None:
            latent = after_step(step, latent)
    return latent
