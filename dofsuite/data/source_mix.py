"""Which of two sources a sample is drawn from: closed forms of its position in the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from dofsuite.data.sampler import hash_of
from dofsuite.errors import UserError

# Shares are counted in integers, so that neighboring positions agree exactly.
SHARE_UNITS = 2**20


@dataclass(frozen=True)
class SourceMix(ABC):
    """How two sources are mixed over the optimizer steps of a run."""

    samples_per_step: int | None = None
    """Samples of an optimizer step of all ranks together. Null: this run's own, batch_size x world
    size x accumulate_grad_batches, which stays the same when a run goes on with other devices."""

    def __post_init__(self) -> None:
        if self.samples_per_step is not None and self.samples_per_step < 1:
            raise UserError("data.source_mix.samples_per_step: it must be at least 1.")

    def for_steps_of(self, samples: int) -> SourceMix:
        """Return this mix for a run whose steps are of so many samples, where none were given."""
        return self if self.samples_per_step else replace(self, samples_per_step=samples)

    def in_rows_of(self, samples: int) -> SourceMix:
        """Return this mix with rows of so many samples in place of samples.

        Raises:
            UserError: A step does not hold whole rows.
        """
        assert self.samples_per_step is not None, "for_steps_of comes first"
        if self.samples_per_step % samples:
            raise UserError(
                f"data.source_mix.samples_per_step: {self.samples_per_step} is no multiple of "
                f"data.buckets.samples_in_row, {samples}: change one of them."
            )
        return replace(self, samples_per_step=self.samples_per_step // samples)

    @abstractmethod
    def num_second_before(self, position: int, seed: int) -> int:
        """Return how many of the positions `[0, position)` draw the second source."""

    def source_at(self, position: int, seed: int) -> tuple[int, int]:
        """Return `(source, draw)` of a position: its source and that source's earlier draws."""
        before = self.num_second_before(position, seed)
        after = self.num_second_before(position + 1, seed)
        return (1, before) if after > before else (0, position - before)


@dataclass(frozen=True)
class ShareRamp(SourceMix):
    """A share of the second source that changes linearly.

    `start_share` until step `until_step`, then linear to `end_share` at step `full_step`. The
    defaults are DiffCamera's, *stated*: photographs and generated images 50/50 for 1000 steps, then
    linear to generated images alone by step 2500.

    Paper: does not say how sources are drawn. Here: systematic sampling, floor(C(p) + u) with C the
    sum of the shares up to position p and u a phase from the seed, because counts are then closed
    forms, exact to one sample.
    """

    start_share: float = 0.5
    """Share of the second source at the start."""
    end_share: float = 1.0
    """Share of the second source from `full_step` on."""
    until_step: int = 1000
    """Last step of the constant part."""
    full_step: int = 2500
    """Step at which `end_share` is reached."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.start_share <= 1 and 0 <= self.end_share <= 1):
            raise UserError("data.source_mix: start_share and end_share must lie in [0, 1].")
        if not 0 <= self.until_step < self.full_step:
            raise UserError("data.source_mix: until_step must be at least 0 and below full_step.")

    def share(self, step: int) -> float:
        return self._units(step) / (SHARE_UNITS * self._ramp)

    def num_second_before(self, position: int, seed: int) -> int:
        assert self.samples_per_step is not None, "for_steps_of comes first"
        # Sum of the shares of the steps that are over: constant, on the ramp, after it
        steps, rest = divmod(position, self.samples_per_step)
        climbing = min(max(steps - self.until_step, 0), self._ramp)
        full = max(steps - self.full_step, 0)
        climbed = climbing * (climbing - 1) // 2 + full * self._ramp
        over = self._start_units * self._ramp * steps + self._rise_units * climbed
        # C(p): those, then the begun one
        total = self.samples_per_step * over + rest * self._units(steps)
        unit = SHARE_UNITS * self._ramp
        return (total + hash_of(seed, 0x5EED) % unit) // unit

    @property
    def _ramp(self) -> int:
        return self.full_step - self.until_step

    @property
    def _start_units(self) -> int:
        return round(self.start_share * SHARE_UNITS)

    @property
    def _rise_units(self) -> int:
        return round(self.end_share * SHARE_UNITS) - self._start_units

    # The share at `step` in units of 1 / (SHARE_UNITS * ramp length).
    def _units(self, step: int) -> int:
        climbed = min(max(step - self.until_step, 0), self._ramp)
        return self._start_units * self._ramp + self._rise_units * climbed


@dataclass(frozen=True)
class CycleMix(SourceMix):
    """Whole cycles of steps from one of two sources alternately: the first in even cycles.

    For alternating optimization, whose generator and critic steps must share a source. Text2Image
    derives its own from `model.stages`.
    """

    steps_per_cycle: int = 6
    """Optimizer steps of a cycle."""
    start_step: int | None = 0
    """First step of the alternation; before it the first source alone is drawn. Null: never."""
    interleave_steps: int = 0
    """First steps of the run, which draw the two sources in turn, a step each (*ours*)."""
    draws_second: tuple[bool, ...] = ()
    """Of each step of the alternation whether it draws the second source, repeated; empty for whole
    cycles in turn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"steps_per_cycle": 1, "start_step": 0, "interleave_steps": 0}
        for name, smallest in least.items():
            if (getattr(self, name) or 0) < smallest and getattr(self, name) is not None:
                raise UserError(f"data.source_mix.{name}: it must be at least {smallest}.")
        if self.start_step is not None and self.interleave_steps > self.start_step:
            raise UserError(
                f"data.source_mix.interleave_steps: it must be at most start_step, "
                f"{self.start_step}."
            )

    def num_second_before(self, position: int, seed: int) -> int:
        assert self.samples_per_step is not None, "for_steps_of comes first"
        step = self.samples_per_step
        interleaved = _num_second(min(position, self.interleave_steps * step), step)
        if self.start_step is None:
            return interleaved
        in_cycles = max(position - self.start_step * step, 0)
        if not self.draws_second:
            return interleaved + _num_second(in_cycles, self.steps_per_cycle * step)
        # Whole repetitions of the pattern, its whole steps, then the step that has begun
        steps, rest = divmod(in_cycles, step)
        repeats, begun = divmod(steps, len(self.draws_second))
        seconds = repeats * sum(self.draws_second) + sum(self.draws_second[:begun])
        return interleaved + seconds * step + self.draws_second[begun] * rest


# How many of the first `positions` draw the second source where runs of `run` alternate.
def _num_second(positions: int, run: int) -> int:
    pairs, rest = divmod(positions, 2 * run)
    return pairs * run + max(rest - run, 0)
