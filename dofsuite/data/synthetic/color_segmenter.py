"""A segmenter of the synthetic scenes with captions, whose things and walls have named colors."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dofsuite.data.synthetic.textures import THING_COLORS, WALL_MATERIALS
from dofsuite.errors import UserError

# The choice of segmenter that stands for `ColorSegmenter`.
COLORS = "colors"
# What the captions can name, by color; gravel is as gray as white.
NAMED_COLORS = THING_COLORS | {
    name: wall.color for name, wall in WALL_MATERIALS.items() if name != "gravel"
}


def is_color_segmenter(choice: str | None) -> bool:
    """Whether a choice of segmenter is `ColorSegmenter`.

    Raises:
        UserError: It is spelled as in older versions.
    """
    if choice == "colours":
        raise UserError("segmenter: colours is called colors now: write colors.")
    return choice == COLORS


class ColorSegmenter:
    """Labels every pixel with the named colors nearest to it in hue and saturation.

    [n, 3, h, w] in [0, 1] -> ids [n, k, h, w] of the `top_k` colors of the smallest angle to the
    pixel's, so that light and shade do not count.
    """

    name = "named colors"
    num_classes = len(NAMED_COLORS)

    def __init__(self, top_k: int = 1) -> None:
        self.top_k = top_k

    def __call__(self, images: Tensor) -> Tensor:
        named = normalize(images.new_tensor(list(NAMED_COLORS.values())), dim=1)  # [k, 3]
        cosine = torch.einsum("nchw,kc->nkhw", normalize(images, dim=1), named)
        return cosine.topk(self.top_k, dim=1).indices
