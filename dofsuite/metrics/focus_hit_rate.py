"""Focus hit rate: is the chosen point sharper in the picture focused there than in the one focused elsewhere?"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from dofsuite.metrics.laplacian_variance import check_sweep
from dofsuite.optics import laplacian, srgb_to_luma


def local_sharpness(
    images: Float[Tensor, "n 3 h w"], points: Float[Tensor, "n 2"], window: float
) -> Float[Tensor, "n"]:
    """Mean square of the luma's Laplacian in a square of `window` times the long side (3 px at least) around a point."""
    height, width = images.shape[-2:]
    energy = laplacian(srgb_to_luma(images.double())).square()
    radius = max(1, round(window * max(height, width) / 2))
    mean = functional.avg_pool2d(energy, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
    column = (points[:, 0] * width).long().clamp(0, width - 1)
    row = (points[:, 1] * height).long().clamp(0, height - 1)
    return mean[torch.arange(len(images), device=images.device), 0, row, column]


def focus_hit_rate(
    preds: Float[Tensor, "b 2 3 h w"], points: Float[Tensor, "b 2 2"], window: float = 0.1
) -> Float[Tensor, ""]:
    """Share of the two points of each pair that are sharper in the picture focused there than in the other (*ours*).

    Chance is 0.5, a tie is a miss. The ground truth misses too, where a point has no detail around it or lies at an edge:
    report its own rate beside the model's.

    Args:
        preds: Two pictures of every scene, focused at the first and at the second point, display values in [0, 1].
        points: The two points (x, y) as fractions of width and height from the top left.
        window: Side of the square around a point over the picture's long side.

    Example:
        >>> import torch
        >>> sharp = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> left, right = sharp.clone(), sharp.clone()
        >>> left[..., 8:], right[..., :8] = 0.5, 0.5
        >>> focus_hit_rate(torch.stack([left, right], 1), torch.tensor([[[0.2, 0.5], [0.8, 0.5]]])).item()
        1.0
    """
    metric = FocusHitRate(window).to(preds.device)
    metric.update(preds, points)
    return metric.compute()


class FocusHitRate(Metric):
    """Focus hit rate over batches and processes; see `focus_hit_rate`.

    `update(preds, points)` takes pairs [batch, 2, 3, h, w] in [0, 1] and points [batch, 2, 2]; `compute()` gives one scalar.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    hits: Tensor
    count: Tensor

    def __init__(self, window: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < window <= 1:
            raise ValueError(f"window must be a share of the long side in (0, 1], not {window}.")
        self.window = window
        self.add_state("hits", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, points: Tensor) -> None:
        """Add a batch of pairs."""
        check_sweep(preds, None, "preds")
        if preds.shape[1] != 2 or points.shape != (len(preds), 2, 2):
            raise ValueError(
                f"preds must be pairs [b, 2, 3, h, w] and points [b, 2, 2], not {list(preds.shape)} and {list(points.shape)}."
            )
        for here, elsewhere in ((0, 1), (1, 0)):
            sharp_here = local_sharpness(preds[:, here], points[:, here], self.window)
            sharp_there = local_sharpness(preds[:, elsewhere], points[:, here], self.window)
            self.hits += (sharp_here > sharp_there).sum()
            self.count += len(preds)

    def compute(self) -> Tensor:
        """Return the rate of all pairs so far."""
        return self.hits / self.count
