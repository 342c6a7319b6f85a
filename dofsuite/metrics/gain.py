"""Blur gain: how much of the requested blur there is.

LVCorr does not measure it: a tenth of the blur scores higher than all of it.
"""

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.metrics.guards import check_same_shape
from dofsuite.metrics.scalar_metric import ScalarMetric
from dofsuite.metrics.sharpness import Levels, checked_levels, gain_of_ends, sharpness_curves


def blur_gain(
    preds: Float[Tensor, "b s 3 h w"], target: Float[Tensor, "b s 3 h w"], bokeh_levels: Levels
) -> Float[Tensor, ""]:
    """Log ratio of sharpness over the ground truth's (*ours*); 1 is right, 0 is no control.

        gain = log(LV(b_max) / LV(b_min)) of preds / log(LV(b_max) / LV(b_min)) of target

    with LV the Laplacian variance averaged over scenes. Above 1 the model blurs too much; below 0
    it sharpens.

    Args:
        preds: the model's images of every scene at every level, display values in [0, 1].
        target: the ground truth.
        bokeh_levels: the requested levels, in the order of the settings; the highest and the lowest
            are compared.

    Returns:
        A scalar; 0, with a warning, where the ground truth does not change with the level or a mean
        sharpness is 0.

    Raises:
        ValueError: on another shape, size or range, or too few levels.

    Example:
        >>> import torch
        >>> noise = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> truth = 0.5 + noise * torch.tensor([1.0, 0.25]).reshape(1, 2, 1, 1, 1)
        >>> half_as_strong = 0.5 + noise * torch.tensor([1.0, 0.5]).reshape(1, 2, 1, 1, 1)
        >>> round(blur_gain(half_as_strong, truth, [5, 20]).item(), 2)
        0.5
    """
    levels = checked_levels(bokeh_levels)
    preds_curves, target_curves = _both_curves(preds, target, len(levels))
    return _gain(preds_curves.mean(dim=0), target_curves.mean(dim=0), levels)


def _both_curves(preds: Tensor, target: Tensor, num_levels: int) -> tuple[Tensor, Tensor]:
    preds_curves = sharpness_curves(preds, num_levels, "preds")
    target_curves = sharpness_curves(target, num_levels, "target")
    check_same_shape(target, preds)
    return preds_curves, target_curves


class BlurGain(ScalarMetric):
    """`blur_gain` over batches and processes.

    As input to `forward` and `update`: `preds` and `target`, both [batch, settings, 3, h, w],
    float, in [0, 1]. As output of `compute`: a scalar, 1 is right; 0, with a warning, where the
    ground truth does not change with the level.

    Args:
        bokeh_levels: the requested levels, in the order of the settings, at least two different
            ones.
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> noise = torch.rand(4, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> truth = 0.5 + noise * torch.tensor([1.0, 0.25]).reshape(1, 2, 1, 1, 1)
        >>> metric = BlurGain(bokeh_levels=[5, 20])
        >>> metric.update(truth, truth)
        >>> metric.compute().item()
        1.0
    """

    higher_is_better = plot_lower_bound = plot_upper_bound = None

    def __init__(self, bokeh_levels: Levels, **kwargs: Any) -> None:
        levels = checked_levels(bokeh_levels)
        zeros = torch.zeros(2, len(levels), dtype=torch.float64)  # of preds and target
        super().__init__({"bokeh_levels": levels.tolist()}, zeros, **kwargs)
        self.levels = levels  # no buffer: `half()` of a module around the metric would round it

    def update(self, preds: Tensor, target: Tensor) -> None:
        for total, curves in zip(
            self.total, _both_curves(preds, target, len(self.levels)), strict=True
        ):
            total += curves.sum(dim=0)
        self.count += len(preds)

    def compute(self) -> Tensor:
        if bool(self.count == 0):
            return self.total.new_tensor(torch.nan)
        return _gain(self.total[0], self.total[1], self.levels)


def _gain(preds_curve: Tensor, target_curve: Tensor, levels: Tensor) -> Tensor:
    """The gain of curves [s], which may be sums or means: the number of scenes cancels."""
    ends = torch.stack([levels.argmin(), levels.argmax()])
    gain, is_none = gain_of_ends(preds_curve[ends][None], target_curve[ends][None])
    if bool(is_none):
        warnings.warn(
            "BlurGain: the truth does not change with the level or an image is flat; set to 0.",
            stacklevel=3,
        )
    return gain[0]
