"""Focus hit rate: is a point sharper in the image focused there than in one focused elsewhere?"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dofsuite.metrics.guards import check_tensor, check_window, display_values, shape_of
from dofsuite.metrics.precision import widen
from dofsuite.metrics.scalar_metric import ScalarMetric
from dofsuite.metrics.sharpness import local_sharpness


def focus_hit_rate(
    preds: Float[Tensor, "b 2 3 h w"], points: Float[Tensor, "b 2 2"], window: float | int = 0.1
) -> Float[Tensor, ""]:
    """Share of points that are sharper in the image focused there than in the other (*ours*).

        rate = mean over pairs and k of [E(preds_k, point_k) > E(preds_other, point_k)]

    with E the mean square of the luma's Laplacian in a square window around the point. Chance is
    0.5, a tie is a miss. The ground truth misses too where a point has no detail around it or lies
    at an edge: report its rate too.

    Args:
        preds: two images of every scene, focused at the first and at the second point, display
            values in [0, 1].
        points: the two points (x, y) as fractions of width and height from the top left, in [0, 1].
        window: side of the square over the image's long side, in (0, 1]; at least 3 px, none of
            them beyond the border.

    Returns:
        A scalar in [0, 1].

    Raises:
        ValueError: on other shapes, non-finite images, or images, points or a window out of range.

    Example:
        >>> import torch
        >>> detail = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> left, right = detail.clone(), detail.clone()
        >>> left[..., 8:], right[..., :8] = 0.5, 0.5
        >>> points = torch.tensor([[[0.2, 0.5], [0.8, 0.5]]])
        >>> focus_hit_rate(torch.stack([left, right], dim=1), points).item()
        1.0
    """
    return widen(focus_hits(preds, points, window)).mean()


@torch.no_grad()
def focus_hits(preds: Tensor, points: Tensor, window: float | int = 0.1) -> Bool[Tensor, "b 2"]:
    """For each pair and each of its points, whether it is sharper in its own image."""
    # Images and points
    for value, name in ((preds, "preds"), (points, "points")):
        check_tensor(value, name)
    if preds.ndim != 5 or preds.shape[1:3] != (2, 3) or points.shape != (len(preds), 2, 2):
        raise ValueError(
            f"preds must be [batch, 2, 3, h, w] and points [batch, 2, 2], not {shape_of(preds)} "
            f"and {shape_of(points)}."
        )
    preds = display_values(preds, "preds")
    if not bool(((points >= 0) & (points <= 1)).all()):  # nor is a NaN
        raise ValueError(
            "points must be fractions of width and height in [0, 1]; divide pixels by the image's "
            "size."
        )
    # Each point in its own image and in the other
    own = local_sharpness(preds.flatten(0, 1), points.flatten(0, 1), window)
    other = local_sharpness(preds.flip(1).flatten(0, 1), points.flatten(0, 1), window)
    return (own > other).reshape(-1, 2)


class FocusHitRate(ScalarMetric):
    """`focus_hit_rate` over batches and processes.

    As input to `forward` and `update`: `preds` [batch, 2, 3, h, w], float, in [0, 1], `points`
    [batch, 2, 2], (x, y) as fractions of width and height. As output of `compute`: a scalar in [0,
    1], higher is better, 0.5 is chance.

    Args:
        window: side of the square around a point over the image's long side, in (0, 1].
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> detail = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> left, right = detail.clone(), detail.clone()
        >>> left[..., 8:], right[..., :8] = 0.5, 0.5
        >>> points = torch.tensor([[[0.2, 0.5], [0.8, 0.5]]])
        >>> metric = FocusHitRate()
        >>> metric.update(torch.stack([left, right], dim=1), points)
        >>> metric.update(torch.stack([right, left], dim=1), points)
        >>> metric.compute().item()
        0.5
    """

    def __init__(self, window: float | int = 0.1, **kwargs: Any) -> None:
        check_window(window)
        super().__init__({"window": window}, **kwargs)
        self.window = window

    def update(self, preds: Tensor, points: Tensor) -> None:
        hits = focus_hits(preds, points, self.window)
        self.total += hits.sum()
        self.count += hits.numel()
