"""Rectified flow, SDXL's diffusion, and their random draws, as pure functions.

Convention: in rectified flow `t` is a float in [0, 1], 0 is the clean latent and 1 is noise; in
SDXL's diffusion `t` is an integer in [0, 999], 0 is nearly clean and 999 nearly noise, and the
noise schedule is given as `alphas_cumprod`. Latents are [b, c, h, w]. Every draw is a function of
(seed, global sample index, purpose) alone, so it does not depend on ranks, workers, the batch, or
where a run was interrupted. Draws are made on the CPU: they are the same on every device.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dofsuite.optics.meta import at_least_float32


def draw_integer(seed: int, index: int, purpose: str) -> int:
    """Return a uniform integer in [0, 2^63), a function of its three arguments alone."""
    digest = hashlib.blake2b(f"{seed}/{index}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def sample_generator(seed: int, index: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(draw_integer(seed, index, purpose))


def draw_uniform(
    seed: int, indices: Sequence[int], purpose: str, count: int
) -> Float[Tensor, "b count"]:
    """Draw `count` numbers in [0, 1) for every sample index."""
    return torch.stack(
        [torch.rand(count, generator=sample_generator(seed, i, purpose)) for i in indices]
    )


def draw_noise(
    shape: Sequence[int], seed: int, indices: Sequence[int], purpose: str
) -> Float[Tensor, "b ..."]:
    """Draw standard normal noise of `shape` (one sample's) for every sample index."""
    return torch.stack(
        [torch.randn(*shape, generator=sample_generator(seed, i, purpose)) for i in indices]
    )


def to_device(drawn: Tensor, device: torch.device | str) -> Tensor:
    """Move a CPU tensor to a device without waiting for what the device is doing.

    A copy from unpinned memory to a GPU begins when all that was launched before has ended.
    """
    if torch.device(device).type == "cuda" and drawn.device.type == "cpu":
        drawn = drawn.pin_memory()
    return drawn.to(device, non_blocking=True)


@dataclass(frozen=True)
class TimestepSampling:
    """Sampling of flow timesteps in training. The DiffCamera paper does not state it."""

    kind: Literal["logit_normal", "uniform"] = "logit_normal"
    """Distribution before the shift; *inferred*: logit-normal, as FLUX-family trainers draw it."""
    mean: float = 0.0
    """Mean of the logit, for logit_normal."""
    std: float = 1.0
    """Standard deviation of the logit, for logit_normal."""
    shift: float = 1.0
    """Resolution shift s: t -> s t / (1 + (s - 1) t); 1 leaves t, above 1 is noisier (*ours*)."""

    def __post_init__(self) -> None:
        for name, value in {"shift": self.shift, "std": self.std}.items():
            if value <= 0:
                raise ValueError(f"{name}: must be above 0, got {value}")


def shift_time(t: Float[Tensor, "..."], shift: float) -> Float[Tensor, "..."]:
    """Shift flow times towards noise: s t / (1 + (s - 1) t) (SD3, arXiv 2403.03206, eq. 23)."""
    return shift * t / (1 + (shift - 1) * t)


def draw_times(sampling: TimestepSampling, seed: int, indices: Sequence[int]) -> Float[Tensor, "b"]:
    """Draw one flow time in (0, 1) for every sample index."""
    if sampling.kind == "uniform":
        t = draw_uniform(seed, indices, "time", 1)[:, 0]
    else:
        logit = sampling.mean + sampling.std * draw_noise((1,), seed, indices, "time")[:, 0]
        t = torch.sigmoid(logit)
    return shift_time(t, sampling.shift)


def per_sample(t: Float[Tensor, "b"], like: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    return t.reshape(-1, *[1] * (like.ndim - 1))


def interpolate(
    x: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: Float[Tensor, "b"]
) -> Float[Tensor, "b c h w"]:
    """Noise a clean latent along the straight path: x^t = (1 - t) x + t eps (rectified flow)."""
    t = per_sample(t, x)
    return (1 - t) * x + t * noise


def velocity(
    x: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Return the straight path's velocity v = dx^t/dt = eps - x."""
    return noise - x


def euler_times(num_steps: int, shift: float = 1.0) -> Float[Tensor, "steps"]:
    """Return `num_steps` + 1 decreasing flow times from 1 to 0, shifted towards noise."""
    return shift_time(torch.linspace(1, 0, num_steps + 1), shift)


# --- SDXL's diffusion: x_t = sqrt(a_t) x + sqrt(1 - a_t) eps, the network predicts eps (or v) ----


def scaled_linear_alphas_cumprod(
    beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000
) -> Float[Tensor, "steps"]:
    """Return a_t = prod_{s <= t} (1 - beta_s) in float64; sqrt(beta) is linear in s, as in SDXL."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64).square()
    return (1 - betas).cumprod(dim=0)


def signal_and_noise_scale(
    t: Int[Tensor, "b"], alphas_cumprod: Float[Tensor, "steps"], like: Float[Tensor, "b ..."]
) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]:
    """Return sqrt(a_t) and sqrt(1 - a_t) in the dtype of `like`, from the schedule's precision."""
    a = per_sample(alphas_cumprod.to(t.device)[t], like)
    return a.sqrt().to(like), (1 - a).sqrt().to(like)


def add_noise(
    x: Float[Tensor, "b ..."],
    noise: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
) -> Float[Tensor, "b ..."]:
    """Noise a clean latent: x_t = sqrt(a_t) x + sqrt(1 - a_t) eps (DDPM, arXiv 2006.11239, eq. 4).

    This and its inverses compute and return float32 (float64 stays). DMD2 converts in float64: the
    error of float32 grows by 1 / sqrt(a_999) = 15 at most, far below that of a network's bfloat16.
    """
    x = at_least_float32(x)
    signal, sigma = signal_and_noise_scale(t, alphas_cumprod, x)
    return signal * x + sigma * noise


def x_from_noise(
    noisy: Float[Tensor, "b ..."],
    predicted_noise: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
) -> Float[Tensor, "b ..."]:
    """Convert a noise prediction to a clean latent: x = (x_t - sqrt(1 - a_t) eps) / sqrt(a_t)."""
    noisy = at_least_float32(noisy)
    signal, sigma = signal_and_noise_scale(t, alphas_cumprod, noisy)
    return (noisy - sigma * predicted_noise) / signal


def noise_from_v(
    noisy: Float[Tensor, "b ..."],
    predicted_v: Float[Tensor, "b ..."],
    t: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
) -> Float[Tensor, "b ..."]:
    """Convert a prediction of v = sqrt(a_t) eps - sqrt(1 - a_t) x to noise.

    arXiv 2202.00512, app. D: eps = sqrt(1 - a_t) x_t + sqrt(a_t) v, so an error of v is sqrt(a_t)
    times as large an error of eps.
    """
    noisy = at_least_float32(noisy)
    signal, sigma = signal_and_noise_scale(t, alphas_cumprod, noisy)
    return sigma * noisy + signal * predicted_v
