"""What the pipeline hands out: a scene, and pictures as PIL images or tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

OutputType = Literal["pil", "pt"]
Pictures = list[Image.Image] | list[list[Image.Image]] | Tensor


@dataclass
class Scene(BaseOutput):
    """An all-in-focus picture with what a lens must know of it; from a generator without a lens, a picture alone.

    Attributes:
        images: PIL images, or a tensor [b, 3, h, w] in [0, 1].
        image_srgb: [b, 3, h, w] display values in [0, 1], unrounded: what the lens blurs.
        depth: [b, 1, h, w] > 0 on the depth model's scale, larger is farther.
        focus_distance: [b] predicted focus, on the same scale.
        scale_mm: [b] mm per unit of depth.
        saliency: [b, 1, h, w] in [0, 1].
    """

    images: list[Image.Image] | Tensor
    image_srgb: Tensor
    depth: Tensor | None = None
    focus_distance: Tensor | None = None
    scale_mm: Tensor | None = None
    saliency: Tensor | None = None


def as_pictures(images: Tensor, output_type: OutputType) -> Pictures:
    """Turn display values [b, 3, h, w] or [b, n, 3, h, w] in [0, 1] into what was asked for: b, or b lists of n."""
    if output_type == "pt":
        return images
    if images.ndim == 5:
        return [as_pictures(row, "pil") for row in images]
    arrays = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]
