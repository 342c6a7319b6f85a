"""What validation probes share: scenes split over ranks, and metrics summed over them."""

import warnings
from typing import cast

from torch import nn
from torchmetrics import Metric


def num_scenes_on_rank(num_scenes: int, rank: int, world_size: int) -> int:
    """Return how many of the first `num_scenes` are on this rank: every `world_size`-th."""
    return len(range(rank, num_scenes, world_size))


def compute_all(metrics: nn.ModuleDict) -> dict[str, float]:
    """Return every metric over all ranks. Collective: call on all ranks, even without a scene.

    torchmetrics warns about a rank without updates, before it sums the ranks' states.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"The ``compute`` method of metric \w+ was called before", UserWarning
        )
        # A ModuleDict's values are Modules to the type checker.
        return {name: float(cast(Metric, metric).compute()) for name, metric in metrics.items()}
