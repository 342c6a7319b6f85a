"""What the pipeline hands out: a scene."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers.utils import BaseOutput
from torch import Tensor

from dofsuite.backbones.pipeline_io import OutputImages


@dataclass
class Scene(BaseOutput):
    """An all-in-focus picture with what a lens must know of it; from a generator without a lens, a picture alone.

    Attributes:
        images: PIL images, a tensor [b, 3, h, w] or an array [b, h, w, 3]; both in [0, 1].
        image_srgb: [b, 3, h, w] display values in [0, 1], unrounded: what the lens blurs.
        depth: [b, 1, h, w] > 0 on the depth model's scale, larger is farther.
        focus_distance: [b] predicted focus, on the same scale.
        scale_mm: [b] mm per unit of depth.
        saliency: [b, 1, h, w] in [0, 1].
    """

    images: OutputImages
    image_srgb: Tensor
    depth: Tensor | None = None
    focus_distance: Tensor | None = None
    scale_mm: Tensor | None = None
    saliency: Tensor | None = None
