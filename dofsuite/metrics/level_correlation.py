"""LVCorr: does sharpness decrease with the requested bokeh level? Three published definitions."""

import warnings
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.metrics.guards import check_same_shape, one_of, short
from dofsuite.metrics.scalar_metric import ScalarMetric, draw_curve
from dofsuite.metrics.sharpness import (
    Levels,
    checked_levels,
    correlation_by_row,
    sharpness_curves,
)

# Which definition; see `lv_corr`.
Variant = Literal["level_mean", "level_per_scene", "genphoto_diff"]


def lv_corr(
    preds: Float[Tensor, "b s 3 h w"],
    bokeh_levels: Levels,
    variant: Variant = "level_mean",
    target: Float[Tensor, "b s 3 h w"] | None = None,
) -> Float[Tensor, ""]:
    """Correlation of sharpness with the bokeh level or the ground truth's; higher is better.

        level_mean       -corr_s(level_s, mean over scenes of LV_s)      DiffCamera, Bokeh Diffusion
        level_per_scene  mean over scenes of -corr_s(level_s, LV_s)      GenRefocus
        genphoto_diff    mean over scenes of                             Generative Photography
                         corr_s(LV_s+1 - LV_s, the ground truth's)

    with Pearson's correlation over the settings s and the Laplacian variance LV. A score is of one
    variant and one list of levels: state both, and the ground truth's own score (for
    `genphoto_diff` that is 1).

    Paper (DiffCamera): correlation "with the reference bokeh level", pooling not stated; its ground
    truth scores 0.93, so it is not a correlation with the ground truth's own curve. Here
    (*inferred*): `level_mean`, which weights a scene by its sharpness: one textured scene can
    decide it, and it was up to .02 away from `level_per_scene`. `genphoto_diff` is what Generative
    Photography's comp_metrics/accuracy_by_CorrCoef computes.

    LV falls like a convex curve, so a perfect renderer is below 1 (.84 to .94 on one photograph, by
    the levels), and a tenth of the blur scores higher: report `blur_gain` too.

    Args:
        preds: images of every scene at every level, display values in [0, 1].
        bokeh_levels: the requested levels, in the order of the settings, at least two different
            ones.
        variant: which definition.
        target: the ground truth, which only `genphoto_diff` needs.

    Returns:
        A scalar in [-1, 1]; a curve that is constant (or linear, for `genphoto_diff`) counts as 0,
        with a warning.

    Raises:
        ValueError: on another shape, size or range, too few levels (three for `genphoto_diff`, and
            its score is then 1 or -1), an unknown variant, or a missing target.

    Example:
        >>> import torch
        >>> noise = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> variance = torch.tensor([1.0, 0.7, 0.4])  # falls evenly
        >>> contrast = variance.sqrt().reshape(1, 3, 1, 1, 1)
        >>> round(lv_corr(0.5 + noise * contrast, [5, 10, 15]).item(), 3)
        1.0
    """
    levels = checked_levels(bokeh_levels)
    _check_variant(variant, levels)
    curves = sharpness_curves(preds, len(levels))
    if variant == "level_mean":
        curves = curves.mean(dim=0, keepdim=True)
    return _correlations(curves, levels, variant, preds, target).mean()


class LVCorr(ScalarMetric):
    """`lv_corr` over batches and processes.

    As input to `forward` and `update`: `preds` and, for `genphoto_diff`, `target`, both [batch,
    settings, 3, h, w], float, display values in [0, 1]. As output of `compute`: a scalar in [-1,
    1], higher is better; a constant curve counts as 0, with a warning. For the ground truth's own
    score use a second instance.

    Args:
        bokeh_levels: the requested levels, in the order of the settings, at least two different
            ones.
        variant: `level_mean` (correlate the curve averaged over all scenes), `level_per_scene` or
            `genphoto_diff`.
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> noise = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> metric = LVCorr(bokeh_levels=[5, 10, 15])
        >>> metric.update(0.5 + noise * torch.tensor([1.0, 0.7, 0.4]).sqrt().reshape(1, 3, 1, 1, 1))
        >>> round(metric.compute().item(), 3)
        1.0
    """

    plot_lower_bound = -1.0
    curve: Tensor

    def __init__(
        self, bokeh_levels: Levels, variant: Variant = "level_mean", **kwargs: Any
    ) -> None:
        levels = checked_levels(bokeh_levels)
        settings = {"bokeh_levels": levels.tolist(), "variant": variant}
        size = len(levels) if variant == "level_mean" else 1
        super().__init__(settings, torch.zeros(size, dtype=torch.float64), **kwargs)
        self.variant = _check_variant(variant, levels)
        zeros = torch.zeros(len(levels), dtype=torch.float64)
        self.add_state("curve", zeros, dist_reduce_fx="sum")
        self.levels = levels  # no buffer: `half()` of a module around the metric would round it

    def update(self, preds: Tensor, target: Tensor | None = None) -> None:
        """Add the sweeps of a batch of scenes; `target` is used by `genphoto_diff` only."""
        curves = sharpness_curves(preds, len(self.levels))
        if self.variant == "level_mean":
            self.total += curves.sum(dim=0)
        else:  # which checks the target before anything is added
            scores = _correlations(curves, self.levels, self.variant, preds, target)
            self.total += scores.sum()
        self.curve += curves.sum(dim=0)
        self.count += len(preds)

    def compute(self) -> Tensor:
        mean = super().compute()
        if self.variant == "level_mean":
            return _correlations(mean[None], self.levels, self.variant)[0]
        return mean[0]

    def plot_curve(self, ax: Any = None) -> Any:
        """Draw the mean Laplacian variance so far at each bokeh level; needs matplotlib.

        Collective: must be called on all ranks.

        Args:
            ax: the matplotlib axis to draw on; None for a new one.

        Returns:
            The figure and its axis.

        Raises:
            ModuleNotFoundError: without matplotlib.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            mean = self.curve / self.count
        order = self.levels.argsort()
        labels = ("bokeh level", "Laplacian variance")
        return draw_curve(self.levels[order].tolist(), mean.cpu()[order], labels, ax)


def _correlations(
    curves: Float[Tensor, "n s"],
    levels: Tensor,
    variant: Variant,
    preds: Tensor | None = None,
    target: Tensor | None = None,
) -> Float[Tensor, " n"]:
    if variant != "genphoto_diff":
        return _pearson(curves, -levels.to(curves).expand_as(curves))
    if target is None or preds is None:
        raise ValueError(
            "target must be given for the variant genphoto_diff: it correlates with the ground "
            "truth."
        )
    target_curves = sharpness_curves(target, len(levels), "target")
    check_same_shape(target, preds)
    return _pearson(curves.diff(dim=1), target_curves.diff(dim=1))


def _pearson(curves: Float[Tensor, "n s"], against: Float[Tensor, "n s"]) -> Float[Tensor, " n"]:
    """Pearson's correlation row by row; 0, with a warning, where a row is constant."""
    correlation, constant = correlation_by_row(curves, against)
    if bool(constant.any()):
        warnings.warn(
            "LVCorr: sharpness changes at no level or evenly at all; the score is set to 0.",
            stacklevel=3,
        )
    return correlation


def _check_variant(variant: Variant, levels: Tensor) -> Variant:
    if variant == "genphoto_diff" and len(levels) < 3:
        raise ValueError(
            f"bokeh_levels must be at least three for genphoto_diff, not {short(levels.tolist())}."
        )
    return one_of(variant, Variant, "variant")
