"""Alignment: is the picture's content still where it was, and as colored as it was?

Models that edit pictures move, zoom and tint them by a little (*ours*: DiffCamera does not measure
it). A refocus changes neither, so the ground truth has 0 pixels and a small color drift.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.metrics.color_difference import color_drift
from dofsuite.metrics.guards import one_of
from dofsuite.metrics.phase_correlation import checked_pair, fit_alignment
from dofsuite.metrics.precision import widen
from dofsuite.metrics.scalar_metric import ScalarMetric

Quantity = Literal["shift", "scale", "color"]


class Alignment(ScalarMetric):
    """How far results are moved, zoomed or tinted against their inputs, over batches and processes.

    As input to `forward` and `update`: `preds` and `reference`, [batch, 3, h, w] each, float, in
    [0, 1], of one size. As output of `compute`: the mean of one quantity, lower is better:

    - `shift`: length of the shift at the middle of the picture, in pixels
    - `scale`: |scale - 1|
    - `color`: see `color_drift`

    Pairs without a place that is sharp in both have no shift and scale: the mean is over the
    others, and `measured()` tells their share.

    Args:
        quantity: `shift`, `scale` or `color`.
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = Alignment("shift")
        >>> image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> metric.update(image.roll((3, 4), dims=(-2, -1)), image)
        >>> round(metric.compute().item(), 2), metric.measured().item()
        (5.0, 1.0)
    """

    higher_is_better = False
    plot_upper_bound = None

    pairs: Tensor

    def __init__(self, quantity: Quantity = "shift", **kwargs: Any) -> None:
        self.quantity = one_of(quantity, Quantity, "quantity")
        zero = torch.zeros((), dtype=torch.float64)
        super().__init__({"quantity": quantity}, zero, **kwargs)
        self.add_state("pairs", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, reference: Tensor) -> None:
        values = _quantity(preds, reference, self.quantity)
        self.total += values.nansum()
        self.count += values.isfinite().sum()
        self.pairs += len(values)

    def measured(self) -> Tensor:
        """The share of pairs that could be measured. Collective: must be called on all ranks."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return widen(self.count) / self.pairs


def misalignment(
    preds: Float[Tensor, "b 3 h w"],
    reference: Float[Tensor, "b 3 h w"],
    quantity: Quantity = "shift",
) -> Float[Tensor, " b"]:
    """One quantity of `Alignment` for each pair; NaN where it cannot be measured."""
    return _quantity(preds, reference, one_of(quantity, Quantity, "quantity"))


@torch.no_grad()
def _quantity(preds: Tensor, reference: Tensor, quantity: Quantity) -> Float[Tensor, " b"]:
    preds, reference = checked_pair(preds, reference)
    if quantity == "color":
        return color_drift(preds, reference)
    fit = fit_alignment(preds, reference)
    return (fit.scale - 1).abs() if quantity == "scale" else fit.shift_px.norm(dim=1)
