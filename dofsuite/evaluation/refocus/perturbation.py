"""Imperfect depth, as DiffCamera's appendix E makes it: what does a model do whose depth is missing or wrong?"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.diffusion import sample_generator
from dofsuite.evaluation.refocus.config import Perturbation

TITLES = {
    "given": "",
    "zero": "zero depth",
    "mask": "depth masked",
    "crop": "depth cropped",
    "noise": "depth with noise",
}
MASKED_SHARE = 0.3
"""*Stated*: each pixel is set to 0 with this probability."""
NOISE_SIGMA = 1.0
"""*Stated*: "standard Gaussian noise", independent for each pixel; of a disparity in [0, 1] (*inferred*)."""


def perturbed(
    disparity: Float[Tensor, "1 1 h w"], kind: Perturbation, seed: int
) -> Float[Tensor, "1 1 h w"]:
    """Return a disparity in [0, 1] spoilt in one of Table 6's ways.

        zero   all 0
        mask   each pixel 0 with probability 0.3
        crop   one rectangle of random size and place set to 0
        noise  D + n, n ~ N(0, 1) in each pixel, clamped to [0, 1]

    Paper: the rectangle's sizes are not given, nor what becomes of values outside the depth map's
    range. Here: both corners are drawn evenly over the picture (a ninth of it on average), and
    values are clamped, because a depth map is given to the VAE as an image.

    Args:
        disparity: In [0, 1].
        kind: Which way; `given` returns the disparity itself.
        seed: Of this sample; nothing else is random.
    """
    generator = sample_generator(seed, 0, f"depth/{kind}")
    if kind == "zero":
        return torch.zeros_like(disparity)
    if kind == "mask":
        return disparity * (torch.rand(disparity.shape, generator=generator) >= MASKED_SHARE)
    if kind == "noise":
        return (disparity + NOISE_SIGMA * torch.randn(disparity.shape, generator=generator)).clamp(
            0, 1
        )
    if kind == "crop":
        return without_rectangle(disparity, torch.rand(4, generator=generator))
    return disparity


def without_rectangle(
    disparity: Float[Tensor, "1 1 h w"], corners: Float[Tensor, "4"]
) -> Float[Tensor, "1 1 h w"]:
    """Set the rectangle between two corners (y, y, x, x as fractions) to 0, at least one pixel of it."""
    (top, bottom), (left, right) = (
        sorted(int(fraction * side) for fraction in pair)
        for pair, side in zip(corners.reshape(2, 2).tolist(), disparity.shape[-2:], strict=True)
    )
    kept = disparity.clone()
    kept[..., top : bottom + 1, left : right + 1] = 0
    return kept
