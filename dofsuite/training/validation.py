"""What probes of held-out scenes share where several ranks look at them."""

from __future__ import annotations

import warnings

from torch import nn

BEFORE_UPDATE = r"The ``compute`` method of metric \w+ was called before"


def num_scenes_on_rank(scenes: int, rank: int, ranks: int) -> int:
    """Return how many of the first `scenes` are one rank's, where every `ranks`-th is: none where there are too few."""
    return max(0, (scenes - rank + ranks - 1) // ranks)


def compute_all(metrics: nn.ModuleDict) -> dict[str, float]:
    """Return the numbers over all ranks, by name; every rank must ask, those that saw no scene too.

    torchmetrics warns of metrics that were never updated, before it adds up the ranks' states: on
    those it is no news.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", BEFORE_UPDATE, UserWarning)
        return {name: float(metric.compute()) for name, metric in metrics.items()}
