"""DMD2's losses (arXiv 2405.14867, and facts/text2image.md B) and the focus predictor's (arXiv 2510.06215, supplement).

Convention: latents are [b, c, h, w] (any trailing axes will do), logits are [b], high where the
discriminator takes a sample for real. Every loss is computed and returned in float32, whatever
comes in; float64 stays.
"""

from __future__ import annotations

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
    """Weights of the losses.

    Attributes:
        deep: lambda1, of DMD2's losses on a Deep cycle (*inferred*; the value *stated*).
        shallow: lambda2, of the same on a Shallow cycle (*inferred*; the value *stated*).
        focus: lambda3, of the focus predictor's Huber loss (*inferred*; the value *stated*).
        gan_generator: Of the adversarial loss beside distribution matching (DMD2 for SDXL).
        gan_critic: Of the discriminator's loss beside denoising (DMD2 for SDXL).

    Raises:
        ValueError: on a negative or infinite one.
    """

    deep: float = 1.0
    shallow: float = 1.0
    focus: float = 200.0
    gan_generator: float = 5e-3
    gan_critic: float = 1e-2

    def __post_init__(self) -> None:
        """Refuse what would train away from a loss, in the words of the experiment file."""
        for name, weight in vars(self).items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"weights.{name} must be 0 or more and finite, not {weight}")


def guide(
    unconditional: Float[Tensor, "b ..."], conditional: Float[Tensor, "b ..."], guidance: float
) -> Float[Tensor, "b ..."]:
    """Classifier-free guidance: u + w (c - u) (arXiv 2207.12598); the x it stands for is guided alike (linear)."""
    unconditional, conditional = at_least_float32(unconditional), at_least_float32(conditional)
    return unconditional + guidance * (conditional - unconditional)


def distribution_matching_gradient(
    x: Float[Tensor, "b ..."],
    x_real: Float[Tensor, "b ..."],
    x_fake: Float[Tensor, "b ..."],
    floor: float = 1e-4,
) -> Float[Tensor, "b ..."]:
    """Return (x_fake - x_real) / mean_CHW |x - x_real|, sample by sample.

    `x` is the generator's sample; `x_real` (guided) and `x_fake` (guidance 1) are what the two
    scores make of it once it is noised. Paper: the same (arXiv 2311.18828, eq. 8); DMD2 afterwards
    replaces what is not finite. Here: the denominator is not let below `floor` (*ours*; latents
    have unit variance), because x = x_real would otherwise give 0 / 0, or the largest float. What a
    network makes that is not finite stays so, and is seen.
    """
    x, x_real, x_fake = at_least_float32(x), at_least_float32(x_real), at_least_float32(x_fake)
    scale = (x - x_real).abs().flatten(1).mean(dim=1).clamp(min=floor)
    return (x_fake - x_real) / per_sample(scale, x)


def distribution_matching_loss(
    x: Float[Tensor, "b ..."],
    x_real: Float[Tensor, "b ..."],
    x_fake: Float[Tensor, "b ..."],
    floor: float = 1e-4,
) -> Float[Tensor, ""]:
    """L_DM = 1/2 mean (x - sg(x - grad))^2, whose gradient in x is grad / numel(x) (DMD2; sg stops the gradient)."""
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

    Without a weight this is DDPM's (arXiv 2006.11239, eq. 14). A network that predicts v learns
    with w_t = 1 / a_t, which makes it mean (v_theta - v)^2.
    """
    squared = F.mse_loss(
        at_least_float32(predicted_noise), at_least_float32(noise), reduction="none"
    )
    return (
        squared.mean()
        if weight is None
        else (per_sample(weight.to(squared), squared) * squared).mean()
    )


def gan_generator_loss(fake_logits: Float[Tensor, "b"]) -> Float[Tensor, ""]:
    """L_G = mean softplus(-D(fake)), not saturating (DMD2, sec. 4.3)."""
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
    """L_Huber = mean of r^2 / 2 where |r| <= delta, else delta (|r| - delta / 2), r = f_d - sum(S D) / sum(S).

    The paper names the loss (*stated*) but neither its delta (*inferred*: the usual 1) nor its
    target (*inferred*, facts/text2image.md A.2). Distances are on the depth model's scale; no
    gradient goes into the target.
    """
    return F.huber_loss(
        at_least_float32(focus_distance), at_least_float32(target).detach(), delta=delta
    )
