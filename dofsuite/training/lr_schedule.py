"""The learning rate over a run: constant as in the papers, or with warm-up and cool-down."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LrSchedule:
    """Factor on the optimizer's learning rate. Paper: constant (*stated*), which is the default."""

    warmup_steps: int = 0
    """Optimizer steps of linear warm-up from 0, also in a run that continues another (*ours*)."""
    cooldown_steps: int = 0
    """Last steps of the run, of linear decay to 0 (*ours*; short runs end with less noise)."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or self.cooldown_steps < 0:
            raise ValueError("warmup_steps and cooldown_steps must be 0 or above")

    def factor(self, step: int, max_steps: int, start_step: int = 0) -> float:
        """Return the factor at an optimizer step of a run.

        Args:
            step: Optimizer steps that this run has done, from 0.
            max_steps: The run's `trainer.max_steps`, which includes the steps of a run that it
                continues (-1: no end).
            start_step: Optimizer steps before this run began.
        """
        factor = 1.0
        if self.warmup_steps:
            factor = min(factor, (step + 1) / self.warmup_steps)
        if self.cooldown_steps and max_steps > 0:
            factor = min(factor, (max_steps - start_step - step) / self.cooldown_steps)
        return max(0.0, factor)


def start_step(checkpoint: Mapping[str, Any]) -> int:
    """Return the optimizer steps before the beginning of the run that a checkpoint starts.

    They are the steps that the run's own scheduler has not counted: none for a resumed run, all for
    a run that continues another (`as_warm_start` drops the schedulers), and these again when such a
    run is resumed.
    """
    return checkpoint["global_step"] - sum(
        scheduler["last_epoch"] for scheduler in checkpoint["lr_schedulers"]
    )
