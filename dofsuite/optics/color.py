"""Display values to light and back: an explicit step of the caller, never hidden in a renderer.

Every pair is named `a_to_b` / `b_to_a` and is a round trip for values >= 0. Values below 0 are
taken as 0 by the power curves, because a negative number has no real power; all gradients are
finite, at 0 too (there the root's is set to 0).
"""

import torch
from jaxtyping import Float
from torch import Tensor

LUMA_BT601 = (0.299, 0.587, 0.114)


def srgb_to_linear(image_srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """IEC 61966-2-1: sRGB values in [0, 1] to linear light in [0, 1]."""
    low = image_srgb / 12.92
    # max() keeps the power's base positive in the branch that `where` discards: a NaN there would
    # poison the gradient.
    high = ((image_srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(image_srgb <= 0.04045, low, high)


def linear_to_srgb(image_linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """IEC 61966-2-1: linear light in [0, 1] to sRGB values in [0, 1]."""
    low = image_linear * 12.92
    high = 1.055 * image_linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(image_linear <= 0.0031308, low, high)


def display_to_linear(
    image: Float[Tensor, "*shape"], gamma: float | int
) -> Float[Tensor, "*shape"]:
    """The power image ** gamma: linear light to BokehMe (4) and Generative Photography (2.2)."""
    return image.clamp(min=0) ** gamma


def linear_to_display(
    image_linear: Float[Tensor, "*shape"], gamma: float | int
) -> Float[Tensor, "*shape"]:
    """The inverse of `display_to_linear`: image_linear ** (1 / gamma)."""
    positive = image_linear > 0
    # The root's slope is infinite at 0: take the root of 1 there and discard it; the gradient is 0,
    # not NaN.
    root = torch.where(positive, image_linear, torch.ones_like(image_linear)) ** (1 / gamma)
    return torch.where(positive, root, torch.zeros_like(image_linear))


def srgb_to_luma(image_srgb: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "*batch 1 h w"]:
    """BT.601 luma, 0.299 R + 0.587 G + 0.114 B, of display values, as OpenCV converts to gray."""
    weights = image_srgb.new_tensor(LUMA_BT601).reshape(3, 1, 1)
    return (image_srgb * weights).sum(-3, keepdim=True)
