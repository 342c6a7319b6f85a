"""Inpainting of the hidden parts of a depth layer, from its visible surroundings.

Push-pull (Gortler et al., "The Lumigraph", SIGGRAPH 1996): the visible part is averaged down a
pyramid until something is visible everywhere (pull), then each level fills the holes of the finer
one (push). No iteration, and a third more pixels than the image. Paper: B-spline filters. Here
(*ours*): means over 2 x 2 pixels and bilinear interpolation.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TINY = 1e-12


def inpaint_hidden(
    layer: Float[Tensor, "b c h w"], visible: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """Fill in a layer's hidden light and cover: layer + (1 - visible) * surroundings of the hole.

    Args:
        layer: the layer's own part of each pixel, light times membership, 0 where it is hidden or
            absent.
        visible: how much of a pixel shows this layer or one behind it, in [0, 1]; the rest is
            hidden by nearer ones. A hole is filled with the layer's share of the visible
            surroundings, so where the surroundings belong to a farther layer, this one ends.
    """
    # Pull: coarser levels, until one pixel is left.
    levels = [(layer, visible)]
    while max(levels[-1][0].shape[-2:]) > 1:
        levels.append(_coarser(*levels[-1]))
    # Push: fill each level's holes from the coarser one.
    filled = levels[-1][0] / levels[-1][1].clamp(min=TINY)
    for finer, finer_visible in reversed(levels[:-1]):
        filled = functional.interpolate(
            filled, size=finer.shape[-2:], mode="bilinear", align_corners=False
        )
        filled = finer + (1 - finer_visible) * filled
    return filled


def _coarser(layer: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Means over 2 x 2 pixels; the coarse pixel is fully visible if one of the four is."""
    layer, visible = (
        functional.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)
        for image in (layer, visible)
    )
    saturated = (4 * visible).clamp(max=1)
    return layer * (saturated / visible.clamp(min=TINY)), saturated
