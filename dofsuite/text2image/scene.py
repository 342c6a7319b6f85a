"""A scene: an all-in-focus image with what a lens needs, the same in training and inference."""

from dataclasses import dataclass

from diffusers.utils import BaseOutput
from torch import Tensor, nn

from dofsuite.backbones.pipeline_io import OutputImages


@dataclass
class Scene(BaseOutput):
    """An all-in-focus image, its depth and focus; from a generator without a lens, an image alone.

    Attributes:
        images: For users of the pipeline: PIL images, a tensor [b, 3, h, w] or an array
            [b, h, w, 3]; both in [0, 1].
        image_srgb: [b, 3, h, w] display values in [0, 1], not rounded: what the lens blurs.
        depth: [b, 1, h, w] > 0 on the depth model's scale, larger is farther.
        focus_distance: [b] depth in focus, on the same scale.
        scale_mm: [b] mm per unit of depth.
        saliency: [b, 1, h, w] in [0, 1].
    """

    images: OutputImages | None
    image_srgb: Tensor
    depth: Tensor | None = None
    focus_distance: Tensor | None = None
    scale_mm: Tensor | None = None
    saliency: Tensor | None = None


def scene_of(
    image_srgb: Tensor,
    depth_model: nn.Module,
    focus_predictor: nn.Module,
    images: OutputImages | None = None,
) -> Scene:
    """Predict depth and focus of all-in-focus images [b, 3, h, w]; differentiable in them."""
    depth = depth_model(image_srgb)
    focus = focus_predictor(image_srgb, depth)
    return Scene(images, image_srgb, depth, focus.focus_distance, focus.scale_mm, focus.saliency)
