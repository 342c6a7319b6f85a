"""Base class of all metrics: one score from a sum and a count, settings in the repr, and a plot."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NoReturn

import torch
from torch import Tensor
from torchmetrics import Metric

from dofsuite.metrics.precision import WITHOUT_FLOAT64, on_device, widen

# The next metric with a network is this one.
IDENTITIES = count(1)


class ScalarMetric(Metric):
    """A torchmetrics `Metric` with one score, the mean `total / count`, that knows its settings.

    `MetricCollection` merges metrics whose states have equal names and, after the first batch,
    equal values, and then updates only one of them; but two counters can be equal by chance. So a
    state is named after the settings, which keeps metrics of other settings separate; and its value
    is another for each metric with a network, because two networks can have one name.

    Before the first update `compute` gives NaN and torchmetrics' warning. No metric can be
    scripted: `torch.jit.script` says so.

    Args:
        settings: what the score depends on, for the repr and for reports.
        network: what scores the images, or None.
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
        self,
        settings: Mapping[str, object],
        total: Tensor | None = None,
        network: object = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.has_network = network is not None
        self.identity_state = "settings_" + re.sub(r"\W+", "_", self.extra_repr())
        self.add_state(self.identity_state, torch.zeros(2, dtype=torch.long), dist_reduce_fx="max")
        self._identify()
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0) if total is None else total, dist_reduce_fx="sum")

    def _identify(self) -> None:
        """Give a metric with a network, or a copy of one, an identity of its own."""
        if self.has_network:
            # Two digits: a collection compares with a relative tolerance of 1e-5.
            identity = torch.tensor(divmod(next(IDENTITIES), 1000), device=self.device)
            self._defaults[self.identity_state] = identity
            setattr(self, self.identity_state, identity.clone())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._identify()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._identify()

    def __prepare_scriptable__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be scripted; call it outside the scripted module."
        )

    def compute(self) -> Tensor:
        return widen(self.total) / self.count

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        """Follow a parent module to another device, but not to half precision."""
        if self._dtype_convert:  # called by `set_dtype`
            return super()._apply(fn, exclude_state)
        # A score that is kept would be moved as it is, in float64.
        if fn(torch.zeros(1, device=self.device)).device.type in WITHOUT_FLOAT64:
            self._computed = self._forward_cache = None
        moved = super()._apply(fn, exclude_state=tuple(self._defaults))
        for name, default in self._defaults.items():
            assert isinstance(default, Tensor)  # no metric here has a list as its state
            self._defaults[name] = on_device(default, self.device)
            setattr(self, name, on_device(getattr(self, name), self.device))
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


def draw_curve(x: Sequence[float], y: Tensor, labels: tuple[str, str], ax: Any) -> Any:
    """Draw y over x on a matplotlib axis, or on a new one; return the figure and its axis.

    Raises:
        ModuleNotFoundError: without matplotlib.
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plot_curve needs matplotlib: pip install matplotlib.") from error
    figure, ax = pyplot.subplots() if ax is None else (ax.get_figure(), ax)
    ax.plot(x, y.tolist(), marker="o")
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    ax.grid(True)
    return figure, ax


def name_of(network: object) -> str:
    """Name in reports of a network or function: its own `name`, else its function's or class's.

    Example:
        >>> name_of(torch.nn.Identity()), name_of(torch.relu)
        ('Identity', 'relu')
    """
    own = getattr(network, "name", None)
    return own if isinstance(own, str) else getattr(network, "__name__", type(network).__name__)
