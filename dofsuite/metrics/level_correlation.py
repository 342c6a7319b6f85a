"""LVCorr: does sharpness fall as the asked bokeh level rises? (DiffCamera, section 4; Bokeh Diffusion)."""

from __future__ import annotations

import warnings
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from dofsuite.metrics.sharpness import Levels, checked_levels, sharpness_curves

Variant = Literal["level_mean", "level_per_scene"]


def lv_corr(
    preds: Float[Tensor, "b s 3 h w"], bokeh_levels: Levels, variant: Variant = "level_mean"
) -> Float[Tensor, ""]:
    """Negated Pearson correlation of sharpness with the bokeh level, in [-1, 1]; higher is better.

        LVCorr = -corr_s(level_s, LV_s),   LV_s: Laplacian variance at setting s

    Paper: correlation "with the reference bokeh level", pooling not stated; its ground truth scores 0.93, so it is not
    a correlation with the truth's own curve. Here (*inferred*): `level_mean` correlates the curve averaged over scenes,
    `level_per_scene` averages the scenes' correlations; on photographs they differ by a few thousandths.

    LV falls like a convex curve, so a perfect renderer scores about .92 on four even levels, and a tenth of the blur
    scores higher: report the levels and the ground truth's own score beside it, and `blur_gain`.

    Args:
        preds: pictures of every scene at every level, display values in [0, 1].
        bokeh_levels: the levels asked for, in the order of the settings, at least two different ones.
        variant: how scenes are pooled.

    Returns:
        A scalar; 0, with a warning, for a curve that does not change.

    Raises:
        ValueError: on another shape, too few levels or an unknown variant.

    Example:
        >>> import torch
        >>> noise = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> contrast = torch.tensor([1.0, 0.7, 0.4]).sqrt().reshape(1, 3, 1, 1, 1)  # a variance that falls evenly
        >>> round(lv_corr(0.5 + noise * contrast, [5, 10, 15]).item(), 3)
        1.0
    """
    levels = checked_levels(bokeh_levels).to(preds.device)
    curves = _pooled_curves(sharpness_curves(preds, len(levels)), checked_variant(variant))
    return _mean_negated_correlation(curves, levels)


class LVCorr(Metric):
    """`lv_corr` over batches and processes.

    As input to `forward` and `update`: `preds` [batch, settings, 3, h, w], float, display values in [0, 1].
    As output of `compute`: a scalar in [-1, 1], higher is better; 0, with a warning, for a curve that does not change.

    Args:
        bokeh_levels: the levels asked for, in the order of the settings, at least two different ones.
        variant: `level_mean` (correlate the curve averaged over all scenes) or `level_per_scene`.
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> noise = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> metric = LVCorr(bokeh_levels=[5, 10, 15])
        >>> metric.update(0.5 + noise * torch.tensor([1.0, 0.7, 0.4]).sqrt().reshape(1, 3, 1, 1, 1))
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

    def __init__(self, bokeh_levels: Levels, variant: Variant = "level_mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.variant = checked_variant(variant)
        self.register_buffer("levels", checked_levels(bokeh_levels), persistent=False)
        size = len(self.levels) if variant == "level_mean" else 1
        self.add_state("total", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor) -> None:
        """Add the sweeps of a batch of scenes."""
        curves = sharpness_curves(preds, len(self.levels))
        if self.variant == "level_mean":
            self.total += curves.sum(dim=0)
        else:
            self.total += len(preds) * _mean_negated_correlation(curves, self.levels)
        self.count += len(preds)

    def compute(self) -> Tensor:
        """The score of all scenes so far."""
        mean = self.total / self.count
        return _mean_negated_correlation(mean[None], self.levels) if self.variant == "level_mean" else mean[0]


def _pooled_curves(curves: Tensor, variant: Variant) -> Tensor:
    """The curves [n, s] that are correlated: one for each scene, or one for all."""
    return curves.mean(dim=0, keepdim=True) if variant == "level_mean" else curves


def _mean_negated_correlation(curves: Tensor, levels: Tensor) -> Tensor:
    """-Pearson of each curve [n, s] with the levels [s], 0 with a warning where a curve does not change; their mean."""
    level_offset, curve_offset = levels - levels.mean(), curves - curves.mean(dim=1, keepdim=True)
    norm = level_offset.norm() * curve_offset.norm(dim=1)
    constant = curve_offset.norm(dim=1) <= 1e-9 * curves.norm(dim=1)
    if bool(constant.any()):
        warnings.warn("LVCorr: sharpness is the same at all levels; the score is set to 0.", stacklevel=3)
    correlation = (curve_offset @ level_offset) / norm.masked_fill(constant, 1.0)
    negated: Tensor = -correlation.masked_fill(constant, 0.0)
    return negated.mean()


def checked_variant(variant: str) -> Variant:
    """The variant, or a ValueError that names the ones there are."""
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, not {variant!r}.")
    return cast(Variant, variant)
