"""Disparity for a benchmark's pictures from a depth model."""

from __future__ import annotations

import torch
from torch import Tensor

from dofsuite.errors import UserError
from dofsuite.evaluation.job import default_device
from dofsuite.evaluation.refocus_benchmark.config import METRIC_DEPTH, RELATIVE_DEPTH
from dofsuite.evaluation.refocus_benchmark.sources import DepthOf


def depth_model(text: str) -> DepthOf:
    """Load a depth model named `CLASS` or `CLASS=PATH`, such as `RelativeDepth` or `SmallDepth=runs/depth/export`.

    Paper: Depth Anything V2's relative depth, which is disparity up to scale and shift; the
    benchmark stretches it to [0, 1] (`stretched`). Of the other models in `dofsuite.backbones` it
    takes the inverse depth.

    Raises:
        UserError: There is no such model, or it cannot be loaded.
    """
    from dofsuite import backbones

    name, _, path = text.partition("=")
    if name not in (RELATIVE_DEPTH, *METRIC_DEPTH):
        offered = ", ".join((RELATIVE_DEPTH, *METRIC_DEPTH))
        raise UserError(
            f"--depth-model: {name!r} is none of {offered}; choose one, as in {RELATIVE_DEPTH}=PATH."
        )
    device = default_device()
    network = getattr(backbones, name)(*([path] if path else [])).load().to(device)

    @torch.no_grad()
    def disparity(picture: Tensor) -> Tensor:
        answer = network(picture.to(device)).float().cpu()
        return answer if name == RELATIVE_DEPTH else 1 / answer

    return disparity
