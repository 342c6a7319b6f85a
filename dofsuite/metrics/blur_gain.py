"""Blur gain: how much of the asked blur there is. LVCorr is blind to it: a tenth of the blur scores higher than all of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from dofsuite.metrics.laplacian_variance import check_levels, check_sweep, laplacian_variance


def blur_gain(
    preds: Float[Tensor, "b s 3 h w"], target: Float[Tensor, "b s 3 h w"], bokeh_levels: Sequence[float] | Tensor
) -> Float[Tensor, ""]:
    """log(LV(b_max) / LV(b_min)) of the model over that of the truth; 1 is right, 0 is no control, above 1 is too much.

    LV is the Laplacian variance averaged over scenes.

    Args:
        preds: The model's pictures of every scene at every level, display values in [0, 1].
        target: The true ones.
        bokeh_levels: The levels asked for, in the order of the settings.

    Example:
        >>> import torch
        >>> noise = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
        >>> sweep = 0.5 + noise * torch.tensor([1.0, 0.5]).view(1, 2, 1, 1, 1)
        >>> round(blur_gain(sweep, sweep, [5, 20]).item(), 3)
        1.0
    """
    metric = BlurGain(bokeh_levels).to(preds.device)
    metric.update(preds, target)
    return metric.compute()


class BlurGain(Metric):
    """Blur gain over batches and processes; see `blur_gain`.

    `update(preds, target)` takes sweeps [batch, settings, 3, h, w] in [0, 1]; `compute()` gives one scalar, 0 with a warning
    where the truth itself does not change or a picture has no detail at all.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    levels: Tensor
    preds_total: Tensor
    target_total: Tensor

    def __init__(self, bokeh_levels: Sequence[float] | Tensor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("levels", check_levels(torch.as_tensor(bokeh_levels)), persistent=False)
        for name in ("preds_total", "target_total"):
            self.add_state(name, torch.zeros(len(self.levels), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the sweeps of a batch of scenes."""
        check_sweep(preds, len(self.levels), "preds")
        check_sweep(target, len(self.levels), "target")
        if preds.shape != target.shape:
            raise ValueError(f"preds and target must have one shape, not {list(preds.shape)} and {list(target.shape)}.")
        self.preds_total += laplacian_variance(preds).sum(dim=0)
        self.target_total += laplacian_variance(target).sum(dim=0)

    def compute(self) -> Tensor:
        """Return the gain of all scenes so far."""
        low, high = int(self.levels.argmin()), int(self.levels.argmax())
        ends = torch.stack([self.preds_total[[low, high]], self.target_total[[low, high]]])
        logs = torch.log(ends[:, 1] / ends[:, 0])
        if not bool(logs.isfinite().all()) or bool(logs[1] == 0):
            warnings.warn("BlurGain: the truth does not change with the level, or a picture is flat; set to 0.", stacklevel=2)
            return torch.zeros((), device=logs.device)
        return (logs[0] / logs[1]).float()
