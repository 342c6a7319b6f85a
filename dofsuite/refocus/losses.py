"""DiffCamera's losses (arXiv 2509.26599, eqs. 1 and 5; how they are read: docs/reproduction.md).

Convention: velocities and latents are [b, c, h, w] in float32; masks are [b, 1, h, w] in [0, 1], 1
where image 1 is the sharper one; every loss is a mean over all elements.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from dofsuite.optics.stacking import stack_images

# `squared`: mean squared error (*inferred*, usual for flow matching); `plain`: root mean square of
# each sample, the ||.|| as printed.
Norm = Literal["squared", "plain"]


@dataclass(frozen=True)
class Stacking:
    """The stacking constraint, eqs. (2) to (6)."""

    weight: float = 0.1
    """lambda of eq. (6) (*stated*); 0 drops the constraint and its two forward rows."""
    latent: Literal["stack", "own"] = "stack"
    """Input of the two predictions: both the noisy stacked latent (*inferred* from eq. (5)), or
    each the noisy latent of its own target."""
    norm: Norm = "squared"
    """Norm of both losses."""
    antialias: bool = False
    """Low-pass the mask before downsampling to latent size; the paper: bilinear only (*stated*)."""

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight: must be 0 or above, got {self.weight}")


def mean_norm(residual: Float[Tensor, "b c h w"], norm: Norm) -> Float[Tensor, ""]:
    """Return E ||residual||^2 or E ||residual||, per element."""
    squared = residual.square()
    return squared.mean() if norm == "squared" else squared.flatten(1).mean(dim=1).sqrt().mean()


def mean_square_of_each(residual: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    return residual.square().flatten(1).mean(dim=1)


def flow_loss(
    prediction: Float[Tensor, "b c h w"], velocity: Float[Tensor, "b c h w"], norm: Norm = "squared"
) -> Float[Tensor, ""]:
    """L_flow = E || theta(z_t, t, I_r, D, c) - v ||, eq. (1)."""
    return mean_norm(prediction - velocity, norm)


def stacking_loss(
    first: Float[Tensor, "b c h w"],
    second: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "b 1 h w"],
    velocity_stack: Float[Tensor, "b c h w"],
    norm: Norm = "squared",
) -> Float[Tensor, ""]:
    """L_stack = E || v_stack - [ m theta(., t, c_1) + (1 - m) theta(., t, c_2) ] ||, eq. (5)."""
    return mean_norm(velocity_stack - stack_images(mask, first, second), norm)
