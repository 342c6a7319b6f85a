"""The learning rate over a run: constant as in the paper, or with a warm-up and a cool-down for short runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Factor on the optimiser's learning rate. Paper: constant (*stated*), which is the default."""

    warmup_steps: int = 0
    """Optimiser steps over which the rate rises linearly from 0 (*ours*)."""
    cooldown_steps: int = 0
    """Last steps of the run over which it falls linearly to 0 (*ours*; short runs end in less noise)."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or self.cooldown_steps < 0:
            raise ValueError("warmup_steps and cooldown_steps must be 0 or above")

    def factor(self, step: int, max_steps: int) -> float:
        """Return the factor at an optimiser step, counted from 0, of a run of `max_steps` (-1: without end)."""
        rise = (step + 1) / self.warmup_steps if self.warmup_steps else 1.0
        fall = (max_steps - step) / self.cooldown_steps if self.cooldown_steps and max_steps > 0 else 1.0
        return max(0.0, min(1.0, rise, fall))
