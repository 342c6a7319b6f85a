"""Disparity for a benchmark's images from a depth model."""

from __future__ import annotations

import torch
from torch import Tensor

from dofsuite.errors import UserError
from dofsuite.evaluation.job import default_device
from dofsuite.evaluation.refocus_benchmark.config import METRIC_DEPTH, RELATIVE_DEPTH
from dofsuite.evaluation.refocus_benchmark.sources import DisparityModel


def depth_model(text: str) -> DisparityModel:
    """Load a depth model named `CLASS` or `CLASS=PATH`, such as `SmallDepth=runs/depth/export`.

    Paper: Depth Anything V2's relative depth, which is disparity up to scale and shift. Of the
    metric models in `dofsuite.backbones` the inverse of the depth is taken.

    Raises:
        UserError: There is no such model, or it cannot be loaded.
    """
    from dofsuite import backbones

    name, _, path = text.partition("=")
    if name not in (RELATIVE_DEPTH, *METRIC_DEPTH):
        choices = ", ".join((RELATIVE_DEPTH, *METRIC_DEPTH))
        raise UserError(
            f"--depth-model: {name!r} is none of {choices}; choose one, as in "
            f"{RELATIVE_DEPTH}=PATH."
        )
    device = default_device()
    descriptor = getattr(backbones, name)
    network = (descriptor(path) if path else descriptor()).load().to(device)

    # Disparity on the CPU, whatever the network's output
    @torch.no_grad()
    def disparity(image: Tensor) -> Tensor:
        output = network(image.to(device)).float().cpu()
        return output if name == RELATIVE_DEPTH else 1 / output

    return disparity
