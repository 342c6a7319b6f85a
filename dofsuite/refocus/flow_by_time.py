"""The flow loss by flow time, in training and on held-out scenes.

One mean hides what a run learns: near t = 1 the camera alone tells the target, near t = 0 the noisy
latent shows it.
"""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import MeanMetric

from dofsuite.diffusion import to_device
from dofsuite.training.validation import compute_all

BINS = 4
VALIDATION_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


class FlowByTime:
    """Training losses since the last logged step, in equal bins of t; no wait for the device."""

    def __init__(self) -> None:
        self.sums = torch.zeros(BINS)
        self.counts = torch.zeros(BINS)

    def update(self, t: Float[Tensor, "b"], loss: Float[Tensor, "b"]) -> None:
        """Add one loss for every sample."""
        self.sums, self.counts = (to_device(n, loss.device) for n in (self.sums, self.counts))
        in_bin = torch.arange(BINS, device=t.device) == (t * BINS).long()[:, None]  # [b, BINS]
        self.sums = self.sums + (loss[:, None] * in_bin).sum(dim=0)
        self.counts = self.counts + in_bin.sum(dim=0)

    def flush(self) -> dict[str, Tensor]:
        """Return each bin's mean, NaN for an empty one, and begin anew."""
        means = self.sums / self.counts
        self.sums, self.counts = torch.zeros_like(self.sums), torch.zeros_like(self.counts)
        edges = [index / BINS for index in range(BINS + 1)]
        names = [f"flow_t{low:g}-{high:g}" for low, high in pairwise(edges)]
        return dict(zip(names, means.unbind(), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        return {"sums": self.sums.cpu(), "counts": self.counts.cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.sums, self.counts = state["sums"], state["counts"]


class ValidationFlow:
    """The flow loss of held-out scenes at fixed times, noise and cameras: comparable over steps."""

    def __init__(self, device: torch.device) -> None:
        # Any: torch types the items of a ModuleDict as modules without `update`.
        self.metrics: Any = nn.ModuleDict({name_at(t): MeanMetric() for t in VALIDATION_TIMES})
        self.metrics.to(device)

    def update(self, t: float, loss: Float[Tensor, "b"]) -> None:
        self.metrics[name_at(t)].update(loss)

    def values(self) -> dict[str, float]:
        """Return the loss at every time, and their mean. Collective: call on all ranks."""
        # A ModuleDict has no dots in its names.
        values = {
            name.replace("_", "."): value for name, value in compute_all(self.metrics).items()
        }
        return {"flow": sum(values.values()) / len(values)} | {
            f"flow_{name}": value for name, value in values.items()
        }


def name_at(t: float) -> str:
    return f"t{t:g}".replace(".", "_")
