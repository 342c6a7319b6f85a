"""Base class of all metrics: one score from a sum and a count, settings in the repr, and a plot."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class ScalarMetric(Metric):
    """A torchmetrics `Metric` with one score, the mean `total / count`, that knows its settings.

    `MetricCollection` merges metrics whose states have equal names and, after the first batch,
    equal values, and then updates only one of them; but two counters can be equal by chance. So a
    state is named after the settings, which keeps metrics of other settings separate.

    Args:
        settings: what the score depends on, for the repr and for reports.
        total: zeros of the shape and dtype of the sum, by default a whole number; it and `count`
            are summed over processes.
        kwargs: see `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better: bool | None = True
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    total: Tensor
    count: Tensor

    def __init__(
        self, settings: Mapping[str, object], total: Tensor | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        name = "settings_" + re.sub(r"\W+", "_", self.extra_repr())
        for state in (name, "count"):
            self.add_state(state, torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0) if total is None else total, dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        return self.total.double() / self.count

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        """Follow a parent module to another device, but not to half precision."""
        if self._dtype_convert:  # called by `set_dtype`
            return super()._apply(fn, exclude_state)
        moved = super()._apply(fn, exclude_state=tuple(self._defaults))
        for name, default in self._defaults.items():
            assert isinstance(default, Tensor)  # no metric here has a list as its state
            self._defaults[name] = default.to(self.device)
            setattr(self, name, getattr(self, name).to(self.device))
        return moved

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Draw a score or a sequence of scores, by default the present one; needs matplotlib.

        Args:
            val: what `forward` or `compute` returned, or a list of it; None for `compute()`.
            ax: the matplotlib axis to draw on; None for a new one.

        Returns:
            The figure and its axis.

        Raises:
            ModuleNotFoundError: without matplotlib.
        """
        return self._plot(val, ax)


def name_of(network: object) -> str:
    """Name in reports of a network or function: its own `name`, else its function's or class's.

    Example:
        >>> name_of(torch.nn.Identity()), name_of(torch.relu)
        ('Identity', 'relu')
    """
    own = getattr(network, "name", None)
    return own if isinstance(own, str) else getattr(network, "__name__", type(network).__name__)
