"""The order of samples: a function of the seed and the position in the run alone.

Position p of a run is one sample, the same whatever the number of ranks and workers and wherever
the run was interrupted. Which source it is drawn from is decided by a schedule (`SourceSchedule`,
`CycleSchedule`), and its place
within that source by `SourceOrder`: epoch after epoch, each a permutation of the shards and, within
groups of shards, of the samples. Both are closed forms: nothing is replayed on resume.

Permutations are drawn with splitmix64, written out below, so that they never change with a
library's version.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from torch.utils.data import Sampler

from dofsuite.errors import UserError

GROUP_SHARDS = 8
SHARE_UNITS = 2**20


def _splitmix64(state: np.ndarray) -> np.ndarray:
    """Return the finaliser of splitmix64 (Steele, Lea and Flood 2014) of uint64 values."""
    with np.errstate(over="ignore"):
        mixed = state + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def hash_of(*numbers: int) -> int:
    """Return a 64-bit hash of non-negative integers, the same everywhere and always."""
    state = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        state = _splitmix64(state ^ np.uint64(number & (2**64 - 1)))
    return int(state[0])


def permutation(length: int, *seed: int) -> np.ndarray:
    """Return a permutation of `range(length)`: the order of the hashes of (seed, i)."""
    keys = _splitmix64(np.uint64(hash_of(*seed)) ^ _splitmix64(np.arange(length, dtype=np.uint64)))
    return np.argsort(keys, kind="stable")


class SourceOrder:
    """The endless order of one source's samples: every epoch visits each sample once, in an order of its own."""

    def __init__(
        self, shard_sizes: Sequence[int], seed: int, source: int, group_shards: int = GROUP_SHARDS
    ) -> None:
        """Take the number of samples of each shard; `source` keeps the orders of two sources apart."""
        self.shard_sizes, self.seed, self.source, self.group_shards = (
            list(shard_sizes),
            seed,
            source,
            group_shards,
        )
        self.starts = [0, *accumulate(self.shard_sizes)]
        self._groups = lru_cache(maxsize=2)(self._draw_groups)
        self._members = lru_cache(maxsize=4)(self._draw_members)

    def __len__(self) -> int:
        """Return the number of samples of one epoch."""
        return self.starts[-1]

    def __getitem__(self, draw: int) -> int:
        """Return the sample number of the source's draw `draw` in `[0, inf)`."""
        epoch, place = divmod(draw, len(self))
        _, ends = self._groups(epoch)
        group = bisect_right(ends, place)
        return int(self._members(epoch, group)[place - (ends[group - 1] if group else 0)])

    def _draw_groups(self, epoch: int) -> tuple[np.ndarray, list[int]]:
        """Return the epoch's order of shards and the place at which each group of them ends."""
        shards = permutation(len(self.shard_sizes), self.seed, self.source, epoch)
        ends = list(accumulate(self.shard_sizes[shard] for shard in shards))
        return shards, [*ends[self.group_shards - 1 : -1 : self.group_shards], ends[-1]]

    def _draw_members(self, epoch: int, group: int) -> np.ndarray:
        """Return the sample numbers of one group of shards in the epoch's order."""
        shards = self._groups(epoch)[0][group * self.group_shards : (group + 1) * self.group_shards]
        members = np.concatenate([np.arange(self.starts[s], self.starts[s + 1]) for s in shards])
        return members[permutation(len(members), self.seed, self.source, epoch, group)]

    def __reduce__(self) -> tuple[object, ...]:
        """Leave the caches behind when a worker process is spawned."""
        return (SourceOrder, (self.shard_sizes, self.seed, self.source, self.group_shards))


@dataclass(frozen=True)
class SourceSchedule:
    """The share of the second of two sources over the run.

    `start_share` until step `until_step`, then linear to `end_share` at step `full_step`. The
    defaults are DiffCamera's, *stated*: photographs and generated images 50/50 for 1000 steps, then
    linear to generated images alone by step 2500.
    """

    start_share: float = 0.5
    """Share of the second source at the start."""
    end_share: float = 1.0
    """Share of the second source from `full_step` on."""
    until_step: int = 1000
    """Last step of the constant part."""
    full_step: int = 2500
    """Step at which `end_share` is reached."""
    samples_per_step: int = 256
    """How many samples make a step of this schedule (*stated* for 512 px: batches of 256). A constant of the
    experiment and not read from the trainer, so that the order does not depend on ranks or
    accumulation."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.start_share <= 1 and 0 <= self.end_share <= 1):
            raise UserError("data.schedule: start_share and end_share must lie in [0, 1].")
        if not 0 <= self.until_step < self.full_step:
            raise UserError("data.schedule: until_step must be at least 0 and below full_step.")
        if self.samples_per_step < 1:
            raise UserError("data.schedule.samples_per_step: it must be at least 1.")

    def share(self, step: int) -> float:
        """Return the share of the second source at a step."""
        return self._units(step) / (SHARE_UNITS * (self.full_step - self.until_step))

    def num_second_before(self, position: int, seed: int) -> int:
        """Return how many of the positions `[0, position)` draw the second source.

        Systematic sampling: floor(C(p) + u) with C the sum of the shares up to p and u a phase
        drawn from the seed. All in integers, so that neighbouring positions agree exactly. Paper:
        does not say how sources are drawn.
        Here: systematically, because counts are then closed forms, exact to one sample, and equal
            on every rank.
        """
        unit = SHARE_UNITS * (self.full_step - self.until_step)
        steps, rest = divmod(position, self.samples_per_step)
        total = self.samples_per_step * self._sum_units(steps) + rest * self._units(steps)
        return (total + hash_of(seed, 0x5EED) % unit) // unit

    def _units(self, step: int) -> int:
        """Return the share at `step` in units of 1 / (SHARE_UNITS * ramp length)."""
        ramp = self.full_step - self.until_step
        start, end = round(self.start_share * SHARE_UNITS), round(self.end_share * SHARE_UNITS)
        return start * ramp + (end - start) * min(max(step - self.until_step, 0), ramp)

    def _sum_units(self, steps: int) -> int:
        """Return the sum of `_units` over the first `steps` steps."""
        ramp = self.full_step - self.until_step
        start, end = round(self.start_share * SHARE_UNITS), round(self.end_share * SHARE_UNITS)
        climbing = min(max(steps - self.until_step, 0), ramp)
        full = max(steps - self.full_step, 0)
        return start * ramp * steps + (end - start) * (climbing * (climbing - 1) // 2 + full * ramp)


def _second_of(positions: int, run: int) -> int:
    """Return how many of the first `positions` are the second source's where runs of `run` positions alternate."""
    pairs, rest = divmod(positions, 2 * run)
    return pairs * run + max(rest - run, 0)


@dataclass(frozen=True)
class CycleSchedule:
    """Whole cycles of steps from one of two sources alternately: the first in even cycles, the second in odd ones.

    For training that counts in cycles of turns, whose generator and critic must share a source
    (DMD2: one turn of the generator and five of the critic). Before `start_step` the first source
    alone is drawn; cycles count from there. The run may begin with steps from both sources in turn,
    for a teacher that is to know both.
    """

    samples_per_step: int = 16
    """How many samples make a step: batch size x ranks x accumulated batches, the same for every shape of the run
    (*stated* for paper 1: 16 GPUs, one picture each). A constant of the experiment and not read
    from the trainer, so that the order does not depend on ranks."""
    turns: int = 6
    """Steps of a cycle."""
    start_step: int = 0
    """First step of the alternation; a whole number of cycles, where the steps before it are cycles too."""
    interleave_steps: int = 0
    """First steps of the run, which draw the two sources in turn, a step each (*ours*)."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (
            ("samples_per_step", 1),
            ("turns", 1),
            ("start_step", 0),
            ("interleave_steps", 0),
        ):
            if getattr(self, name) < least:
                raise UserError(f"data.schedule.{name}: it must be at least {least}.")
        if self.interleave_steps > self.start_step:
            raise UserError(
                f"data.schedule.interleave_steps: it must be at most start_step, {self.start_step}."
            )

    def num_second_before(self, position: int, seed: int) -> int:
        """Return how many of the positions `[0, position)` draw the second source; the seed has no part in it."""
        mixed = min(position, self.interleave_steps * self.samples_per_step)
        in_cycles = max(position - self.start_step * self.samples_per_step, 0)
        return _second_of(mixed, self.samples_per_step) + _second_of(
            in_cycles, self.turns * self.samples_per_step
        )

    def check_batch(self, global_batch: int) -> None:
        """Refuse a batch of all ranks that would straddle two steps.

        Raises:
            UserError: `samples_per_step` is no multiple of it.
        """
        if self.samples_per_step % global_batch:
            raise UserError(
                f"data.schedule.samples_per_step: {self.samples_per_step} is no multiple of this run's batch of "
                f"{global_batch} (data.batch_size x ranks), so a batch would mix the sources of two cycles: change one."
            )


def source_at(
    position: int, seed: int, sources: int, schedule: SourceSchedule | CycleSchedule
) -> tuple[int, int]:
    """Return `(source, draw)` of a position: its source, and how often that source was drawn before."""
    if sources == 1:
        return 0, position
    before, after = (
        schedule.num_second_before(position, seed),
        schedule.num_second_before(position + 1, seed),
    )
    return (1, before) if after > before else (0, position - before)


class PositionBatches(Sampler[list[int]]):
    """One rank's batches of positions: micro-batch k takes `first + k * global + rank * batch + [0, batch)`.

    The length is always a whole epoch, so that Lightning's own count of batches fits after a
    resume; the positions begin where the run stands (`first` is asked when the iteration begins).
    """

    def __init__(
        self, batch_size: int, batches: int, first: Callable[[], int], rank: int = 0, world: int = 1
    ) -> None:
        """Take the batch size of a rank and the number of batches of an epoch."""
        self.batch_size, self.batches, self.first, self.rank, self.world = (
            batch_size,
            batches,
            first,
            rank,
            world,
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        """Yield an epoch's worth of batches from where the run stands."""
        first = self.first() + self.rank * self.batch_size
        for batch in range(self.batches):
            start = first + batch * self.batch_size * self.world
            yield list(range(start, start + self.batch_size))
