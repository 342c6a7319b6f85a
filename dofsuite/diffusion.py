"""Rectified flow and its random draws, as pure functions.

Convention: `t` is the flow time in [0, 1], 0 is the clean latent and 1 is noise; latents are [b, c, h, w]; every draw
is a function of (seed, global sample index, purpose) and of nothing else, so it does not depend on ranks, workers,
the batch it falls into, or where a run was interrupted. Draws are made on the CPU: they are the same on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


def sample_generator(seed: int, index: int, purpose: str) -> torch.Generator:
    """Return a CPU generator that is a function of its three arguments alone."""
    digest = hashlib.blake2b(f"{seed}/{index}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw_uniform(seed: int, indices: Sequence[int], purpose: str, count: int) -> Float[Tensor, "b count"]:
    """Draw `count` numbers in [0, 1) for every sample index."""
    return torch.stack([torch.rand(count, generator=sample_generator(seed, i, purpose)) for i in indices])


def draw_noise(shape: Sequence[int], seed: int, indices: Sequence[int], purpose: str) -> Float[Tensor, "b ..."]:
    """Draw standard normal noise of `shape` (one sample's) for every sample index."""
    return torch.stack([torch.randn(*shape, generator=sample_generator(seed, i, purpose)) for i in indices])


@dataclass(frozen=True)
class TimeSampling:
    """How flow times are drawn in training. The DiffCamera paper does not say (facts/refocus.md D.3)."""

    kind: Literal["logit_normal", "uniform"] = "logit_normal"
    """Distribution before the shift; *inferred*: logit-normal, as FLUX-family trainers draw it."""
    mean: float = 0.0
    """Mean of the logit, for logit_normal."""
    std: float = 1.0
    """Standard deviation of the logit, for logit_normal."""
    shift: float = 1.0
    """Resolution shift t -> s t / (1 + (s - 1) t); 1 leaves t as it is; above 1 draws noisier times (*ours*)."""

    def __post_init__(self) -> None:
        if self.shift <= 0:
            raise ValueError(f"shift: must be above 0, got {self.shift}")
        if self.std <= 0:
            raise ValueError(f"std: must be above 0, got {self.std}")


def shift_time(t: Float[Tensor, "..."], shift: float) -> Float[Tensor, "..."]:
    """Move flow times towards noise: s t / (1 + (s - 1) t), 0 and 1 stay (SD3, arXiv 2403.03206, eq. 23)."""
    return shift * t / (1 + (shift - 1) * t)


def draw_times(sampling: TimeSampling, seed: int, indices: Sequence[int]) -> Float[Tensor, "b"]:
    """Draw one flow time in (0, 1) for every sample index."""
    if sampling.kind == "uniform":
        t = draw_uniform(seed, indices, "time", 1)[:, 0]
    else:
        t = torch.sigmoid(sampling.mean + sampling.std * draw_noise((1,), seed, indices, "time")[:, 0])
    return shift_time(t, sampling.shift)


def per_sample(t: Float[Tensor, "b"], like: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """Give `t` the trailing axes of `like`."""
    return t.reshape(-1, *[1] * (like.ndim - 1))


def interpolate(
    x: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: Float[Tensor, "b"]
) -> Float[Tensor, "b c h w"]:
    """Noise a clean latent along the straight path: x^t = (1 - t) x + t eps (rectified flow)."""
    t = per_sample(t, x)
    return (1 - t) * x + t * noise


def velocity(x: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return the straight path's velocity v = dx^t/dt = eps - x."""
    return noise - x


def euler_times(num_steps: int, shift: float = 1.0) -> Float[Tensor, "steps"]:
    """Return `num_steps` + 1 decreasing flow times from 1 to 0, shifted towards noise."""
    return shift_time(torch.linspace(1, 0, num_steps + 1), shift)
