"""BokehMe's classical kernel: the share of its light that a pixel sends to a target pixel.

    weight(r, dist) = (0.5 + 0.5 tanh(4 (r - dist))) / (r^2 + 0.2)   for |dx|, |dy| <= int(r) + 1,
                      0 beyond that reach

r >= 0 is the blur radius of the *source* pixel and dist the distance of the target, both in pixels.
A disc with an edge half a pixel soft, divided by about its area. At r = 0 it is almost, not quite,
the identity.

Source: BokehMe (CVPR 2022), classical_renderer/scatter.py (Apache-2.0 since 18 March 2023); written
afresh from the formula.
"""

import torch
from jaxtyping import Float, Num
from torch import Tensor

# 0.5 + 0.5 tanh(4 x) is sigmoid(8 x): one pass over memory instead of three.
EDGE_STEEPNESS_PER_PX = 8.0
AREA_OFFSET_PX2 = 0.2


def tap_weight(
    radius_px: Float[Tensor, "*#shape"],
    distance_px: float | Float[Tensor, "*#shape"],
    chebyshev_px: int | Num[Tensor, "*#shape"],
) -> Float[Tensor, "*#shape"]:
    """The classical weight for sources of radius `radius_px` >= 0 at a target `distance_px` away.

    `chebyshev_px` is max(|dx|, |dy|) of the same offset: the reach int(r) + 1 is a square, the disc
    in it is round.
    """
    return disc_edge(radius_px, distance_px, chebyshev_px) * per_area(radius_px)


def disc_edge(
    radius_px: Float[Tensor, "*#shape"],
    distance_px: float | Float[Tensor, "*#shape"],
    chebyshev_px: int | Num[Tensor, "*#shape"],
) -> Float[Tensor, "*#shape"]:
    """The numerator: 1 inside the disc, 0 outside, soft at the edge, 0 beyond the reach."""
    # chebyshev <= int(r) + 1 is r >= chebyshev - 1, because chebyshev is a whole number.
    within_reach = radius_px >= chebyshev_px - 1
    return torch.sigmoid(EDGE_STEEPNESS_PER_PX * (radius_px - distance_px)) * within_reach


def disc_edge_slope(edge: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Derivative of `disc_edge` by the radius, from its value; 0 at the reach's step."""
    return EDGE_STEEPNESS_PER_PX * edge * (1 - edge)


def per_area(radius_px: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 / (r^2 + 0.2): the more pixels a source reaches, the less each one gets."""
    return 1 / (radius_px * radius_px + AREA_OFFSET_PX2)


def per_area_slope(radius_px: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return -2 * radius_px * per_area(radius_px) ** 2
