"""The learning rate over a run: constant as in the paper, or with a warm-up and a cool-down for short runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LrSchedule:
    """Factor on the optimiser's learning rate. Paper: constant (*stated*), which is the default."""

    warmup_steps: int = 0
    """Optimiser steps over which the rate rises linearly from 0, anew where another run is continued (*ours*)."""
    cooldown_steps: int = 0
    """Last steps of the run over which it falls linearly to 0 (*ours*; short runs end in less noise)."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or self.cooldown_steps < 0:
            raise ValueError("warmup_steps and cooldown_steps must be 0 or above")

    def factor(self, step: int, max_steps: int, start_step: int = 0) -> float:
        """Return the factor at an optimiser step of a run.

        Args:
            step: Optimiser steps that this run has made, from 0.
            max_steps: The run's `trainer.max_steps`, which counts the steps of a run that it
                continues (-1: no end).
            start_step: Optimiser steps made before this run began.
        """
        rise = (step + 1) / self.warmup_steps if self.warmup_steps else 1.0
        fall = (
            (max_steps - start_step - step) / self.cooldown_steps
            if self.cooldown_steps and max_steps > 0
            else 1.0
        )
        return max(0.0, min(1.0, rise, fall))


def start_step(checkpoint: Mapping[str, Any]) -> int:
    """Return the optimiser steps made before the run that a checkpoint starts began.

    They are what the run's own scheduler has not counted: none for a run resumed, all where another
    run is continued (its checkpoint comes without schedulers), and as many as then for such a run
    resumed.
    """
    return checkpoint["global_step"] - sum(
        scheduler["last_epoch"] for scheduler in checkpoint["lr_schedulers"]
    )
