"""LVCorr: does sharpness fall as the asked bokeh level rises? (DiffCamera, sec. 4.2; Bokeh Diffusion)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from dofsuite.metrics.laplacian_variance import check_levels, check_sweep, laplacian_variance

Variant = Literal["level_mean", "level_per_scene"]


def lv_corr(
    preds: Float[Tensor, "b s 3 h w"], bokeh_levels: Sequence[float] | Tensor, variant: Variant = "level_mean"
) -> Float[Tensor, ""]:
    """-Pearson(level, LV(level)), with LV the Laplacian variance; positive is good, 1 is a line.

    `level_mean` (default) correlates the curve averaged over the batch, `level_per_scene` averages each scene's correlation.
    Since LV falls like a convex curve, a perfect renderer scores about .92 on four even levels, and the score depends
    strongly on the levels: report them and the ground truth's own score beside it.

    Args:
        preds: Pictures of every scene at every level, display values in [0, 1].
        bokeh_levels: The levels asked for.
        variant: How scenes are pooled.

    Example:
        >>> import torch
        >>> noise = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> sweep = 0.5 + noise * torch.tensor([1.0, 0.7, 0.4]).sqrt().view(1, 3, 1, 1, 1)
        >>> round(lv_corr(sweep, [5, 10, 15]).item(), 3)
        1.0
    """
    levels = check_levels(torch.as_tensor(bokeh_levels, device=preds.device))
    check_sweep(preds, len(levels), "preds")
    curves = laplacian_variance(preds)
    if variant == "level_mean":
        return negated_correlation(curves.mean(dim=0), levels)
    return torch.stack([negated_correlation(curve, levels) for curve in curves]).mean()


def negated_correlation(curve: Tensor, levels: Tensor) -> Tensor:
    """Return -Pearson, or 0 with a warning where the curve is constant."""
    x, y = levels - levels.mean(), curve - curve.mean()
    norm = (x.square().sum() * y.square().sum()).sqrt()
    if not bool(norm > 1e-12 * (1 + curve.abs().max())):
        warnings.warn("LVCorr: sharpness is the same at all levels; the score is set to 0.", stacklevel=3)
        return torch.zeros((), device=curve.device)
    return (-(x * y).sum() / norm).float()


class LVCorr(Metric):
    """LVCorr over batches and processes; see `lv_corr`.

    `update(preds)` takes sweeps [batch, settings, 3, h, w] in [0, 1]; `compute()` gives one scalar, 0 with a warning where
    sharpness is the same at all levels.

    Example:
        >>> import torch
        >>> noise = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> metric = LVCorr(bokeh_levels=[5, 10, 15])
        >>> metric.update(0.5 + noise * torch.tensor([1.0, 0.7, 0.4]).sqrt().view(1, 3, 1, 1, 1))
        >>> round(metric.compute().item(), 3)
        1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    levels: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, bokeh_levels: Sequence[float] | Tensor, variant: Variant = "level_mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if variant not in ("level_mean", "level_per_scene"):
            raise ValueError(f"variant must be level_mean or level_per_scene, not {variant!r}.")
        self.variant = variant
        self.register_buffer("levels", check_levels(torch.as_tensor(bokeh_levels)), persistent=False)
        size = len(self.levels) if variant == "level_mean" else 1
        self.add_state("total", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor) -> None:
        """Add the sweeps of a batch of scenes."""
        check_sweep(preds, len(self.levels), "preds")
        curves = laplacian_variance(preds)
        if self.variant == "level_per_scene":
            curves = torch.stack([negated_correlation(curve, self.levels).double() for curve in curves])[:, None]
        self.total += curves.sum(dim=0)
        self.count += len(preds)

    def compute(self) -> Tensor:
        """Return the score of all scenes so far."""
        mean = self.total / self.count
        return negated_correlation(mean, self.levels) if self.variant == "level_mean" else mean[0].float()
