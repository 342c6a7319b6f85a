"""DMD2's losses (arXiv 2405.14867) and the focus predictor's (arXiv 2510.06215, supplement).

Convention: latents are [b, c, h, w] (any trailing axes will do), logits are [b], high for real.
Every loss is computed and returned in float32, whatever the input's dtype; float64 stays.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dofsuite.diffusion import per_sample
from dofsuite.optics.meta import at_least_float32


@dataclass(frozen=True)
class Weights:
    """Weights of the losses; finite and non-negative."""

    deep: float = 1.0
    """lambda1, of DMD2's losses in a Deep cycle (*inferred*; the value *stated*)."""
    shallow: float = 1.0
    """lambda2, of the same losses in a Shallow cycle (*inferred*; the value *stated*)."""
    focus: float = 200.0
    """lambda3, of the focus predictor's Huber loss (*inferred*; the value *stated*)."""
    gan_generator: float = 5e-3
    """Of the GAN term, relative to distribution matching (DMD2 for SDXL)."""
    gan_critic: float = 1e-2
    """Of the discriminator's loss, relative to the fake score's (DMD2 for SDXL)."""

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"weights.{name} must be 0 or more and finite, not {weight}")


def guide(
    unconditional: Float[Tensor, "b ..."],
    conditional: Float[Tensor, "b ..."],
    guidance_scale: float,
) -> Float[Tensor, "b ..."]:
    """Classifier-free guidance u + w (c - u) (arXiv 2207.12598); linear, so eps and x0 agree."""
    unconditional, conditional = at_least_float32(unconditional), at_least_float32(conditional)
    return unconditional + guidance_scale * (conditional - unconditional)


def distribution_matching_gradient(
    x: Float[Tensor, "b ..."],
    x_real: Float[Tensor, "b ..."],
    x_fake: Float[Tensor, "b ..."],
    floor: float = 1e-4,
) -> Float[Tensor, "b ..."]:
    """Return (x_fake - x_real) / mean_CHW |x - x_real|, per sample.

    `x` is the generator's sample; `x_real` (with CFG) and `x_fake` (without) are the x0 predictions
    of the two scores for the same noisy x. Paper: the same (arXiv 2311.18828, eq. 8); DMD2 then
    replaces non-finite values. Here: the denominator is clamped to at least `floor` (*ours*;
    latents have unit variance), because x = x_real would otherwise give 0 / 0, or the largest
    float. Non-finite network outputs propagate, so that a diverged run shows.
    """
    x, x_real = at_least_float32(x), at_least_float32(x_real)
    x_fake = at_least_float32(x_fake)
    scale = (x - x_real).abs().flatten(1).mean(dim=1).clamp(min=floor)
    return (x_fake - x_real) / per_sample(scale, x)


def distribution_matching_loss(
    x: Float[Tensor, "b ..."],
    x_real: Float[Tensor, "b ..."],
    x_fake: Float[Tensor, "b ..."],
    floor: float = 1e-4,
) -> Float[Tensor, ""]:
    """L_DM = 1/2 mean (x - sg(x - grad))^2 (DMD2); its gradient in x is grad / numel(x)."""
    x = at_least_float32(x)
    with torch.no_grad():
        target = x - distribution_matching_gradient(x, x_real, x_fake, floor)
    return 0.5 * F.mse_loss(x, target)


def denoising_loss(
    predicted_noise: Float[Tensor, "b ..."],
    noise: Float[Tensor, "b ..."],
    weight: Float[Tensor, "b"] | None = None,
) -> Float[Tensor, ""]:
    """L = mean w_t (eps_theta(x_t, t) - eps)^2, of the fake score and of the teacher.

    Without a weight this is DDPM's (arXiv 2006.11239, eq. 14). For a network that predicts v,
    w_t = 1 / a_t makes it mean (v_theta - v)^2.
    """
    squared = F.mse_loss(
        at_least_float32(predicted_noise), at_least_float32(noise), reduction="none"
    )
    if weight is not None:
        squared = per_sample(weight.to(squared), squared) * squared
    return squared.mean()


def gan_generator_loss(fake_logits: Float[Tensor, "b"]) -> Float[Tensor, ""]:
    """L_G = mean softplus(-D(fake)), the non-saturating GAN loss (DMD2, sec. 4.3)."""
    return F.softplus(-at_least_float32(fake_logits)).mean()


def gan_critic_loss(
    real_logits: Float[Tensor, "b"], fake_logits: Float[Tensor, "n"]
) -> Float[Tensor, ""]:
    """L_D = mean softplus(D(fake)) + mean softplus(-D(real)) (DMD2, sec. 4.3)."""
    fake, real = at_least_float32(fake_logits), at_least_float32(real_logits)
    return F.softplus(fake).mean() + F.softplus(-real).mean()


def focus_loss(
    focus_distance: Float[Tensor, "b"], target: Float[Tensor, "b"], delta: float = 1.0
) -> Float[Tensor, ""]:
    """L_Huber(r) = r^2 / 2 where |r| <= delta, else delta (|r| - delta / 2); r = f_d - target.

    The paper names the loss (*stated*) but neither its delta (*inferred*: the usual 1) nor its
    target (*inferred*: sum(S D) / sum(S), see `focus_target`). Distances are on the depth model's
    scale; the target gets no gradient.
    """
    return F.huber_loss(
        at_least_float32(focus_distance), at_least_float32(target).detach(), delta=delta
    )
