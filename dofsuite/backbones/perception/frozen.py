"""Frozen perception networks: evaluation mode, no gradient for the weights, one for the image.

Convention: images are [b, 3, h, w] display values in [0, 1]. Preprocessing is differentiable torch
(no image processor, which would leave the graph), and no clamp on the way cuts a gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

# Of display values in [0, 1]; what DINOv2 and Swin were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Frozen(nn.Module):
    """A network that stays in evaluation mode, without weight gradients."""

    # An `nn.Module` of diffusers, transformers or a repository, whose attributes are its own.
    network: Any

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Frozen:
        """Stay in evaluation mode.

        A trainer's `module.train()` must not enable dropout or batch statistics. requires_grad is
        left alone, for whoever trains the network.
        """
        return super().train(False)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype


def normalize(image: Tensor) -> Tensor:
    mean = image.new_tensor(IMAGENET_MEAN)[:, None, None]
    return (image - mean) / image.new_tensor(IMAGENET_STD)[:, None, None]


def fitted_size(height: int, width: int, size_px: int | None, multiple: int) -> tuple[int, int]:
    """Return the input size of a patch-based network for an image.

    The side that changes least is brought to `size_px` (None: no change), the other keeps the
    aspect ratio, and both are rounded to a multiple of the patch, at least one: the rule of Depth
    Anything's own processor.
    """
    scale = 1.0
    if size_px is not None:
        scale = min((size_px / side for side in (height, width)), key=lambda s: abs(1 - s))
    rows, columns = (max(1, round(side * scale / multiple)) for side in (height, width))
    return rows * multiple, columns * multiple


def resized(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize [b, c, h, w] with antialiasing; an image of that size is returned as it is."""
    if tuple(image.shape[-2:]) == size:
        return image
    return interpolate(image, size, mode=mode, antialias=True)


class DensePrediction(Frozen):
    """One non-negative number per pixel: a transformers depth estimator with resizing around it."""

    def __init__(self, network: nn.Module, size_px: int | None, smallest: float) -> None:
        """Freeze a network.

        Args:
            network: A `DepthAnythingForDepthEstimation`, or another of transformers whose output
                has `predicted_depth`.
            size_px: Side of the network's input; None is the image's own, rounded to whole patches.
            smallest: Lower bound of the output, against a sigmoid that underflows.
        """
        super().__init__(network)
        self.size_px, self.smallest = size_px, smallest

    def forward(self, image: Tensor) -> Tensor:
        """Predict [b, 1, h, w], in float32 at least, for display values [b, 3, h, w]."""
        height, width = image.shape[-2:]
        size = fitted_size(height, width, self.size_px, self.network.config.patch_size)
        pixels = normalize(resized(image, size, "bicubic"))
        output = self.network(pixel_values=pixels.to(self.dtype)).predicted_depth[:, None]
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        # Bilinear (Depth Anything's own processor: bicubic), which cannot undershoot 0 at an edge.
        return resized(output, (height, width), "bilinear").clamp(min=self.smallest)
