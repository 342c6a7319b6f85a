"""Frozen networks that look at pictures: no weight gradient, never in training mode, a gradient for the picture.

Convention: pictures are [b, 3, h, w] display values in [0, 1]. All of the way from the picture to
the network is plain torch (no image processor, which leaves the graph), and no clamp on it cuts a
gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of display values in [0, 1]; what DINOv2 and Swin were trained with."""


class Frozen(nn.Module):
    """A network in evaluation mode whose weights ask for no gradient, whatever the module around it is set to."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Frozen:
        """Stay in evaluation mode: a trainer that walks over its children must not start dropout or batch statistics.

        (Not the weights' gradients: whoever trains the network asks for those.)
        """
        return super().train(False)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the network runs."""
        return next(self.network.parameters()).dtype


def normalise(image: Tensor) -> Tensor:
    """Give display values in [0, 1] ImageNet's mean and deviation."""
    mean, std = (
        image.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (image - mean) / std


def fitted_size(height: int, width: int, size_px: int | None, multiple: int) -> tuple[int, int]:
    """Return the size at which a network of patches sees a picture.

    The side that changes least is brought to `size_px` (None: no change), the other keeps the
    proportion, and both are rounded to a multiple of the patch, at least one: the rule of Depth
    Anything's own processor.
    """
    scale = (
        1.0
        if size_px is None
        else min((size_px / side for side in (height, width)), key=lambda s: abs(1 - s))
    )
    return max(multiple, round(height * scale / multiple) * multiple), max(
        multiple, round(width * scale / multiple) * multiple
    )


def resized(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize [b, c, h, w] with antialiasing; a picture of that size is left as it is."""
    if tuple(image.shape[-2:]) == size:
        return image
    return interpolate(image, size, mode=mode, antialias=True)


class DensePrediction(Frozen):
    """One positive number for every pixel: a transformers depth estimator between resizing and resizing back."""

    def __init__(self, network: nn.Module, size_px: int | None, smallest: float) -> None:
        """Freeze a network.

        Args:
            network: A `DepthAnythingForDepthEstimation`, or another of transformers that answers
                with predicted_depth.
            size_px: Side at which it sees a picture; None is the picture's own, rounded to whole
                patches.
            smallest: Lower bound of the answer, against a sigmoid that has run out of digits.
        """
        super().__init__(network)
        self.size_px, self.smallest = size_px, smallest

    def forward(self, image: Tensor) -> Tensor:
        """Answer for display values [b, 3, h, w] with [b, 1, h, w], in float32 at least."""
        size = fitted_size(
            image.shape[-2], image.shape[-1], self.size_px, self.network.config.patch_size
        )
        seen = normalise(resized(image, size, "bicubic"))
        answer = self.network(pixel_values=seen.to(self.dtype)).predicted_depth[:, None]
        answer = answer.to(torch.promote_types(answer.dtype, torch.float32))
        # Bilinear (Depth Anything's own processor: bicubic), because it cannot swing below zero at
        # an edge.
        return resized(answer, (image.shape[-2], image.shape[-1]), "bilinear").clamp(
            min=self.smallest
        )


def in_seed(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network whose random weights follow from `seed` alone; the global state is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
