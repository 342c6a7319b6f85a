"""The order of samples: a function of the seed and the position in the run alone.

Position p of a run is one sample, independent of the number of ranks and workers and of resumes.
`source_mix.py` decides which source it is drawn from, `SourceOrder` which sample of that source:
epoch after epoch, each a permutation of the shards and, within groups of shards, of the samples.
Both are closed forms: nothing is replayed on resume.

Permutations are drawn with splitmix64, implemented below, so that they never change with a
library's version.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
from torch.utils.data import Sampler

from dofsuite.errors import UserError


# Apply the finalizer of splitmix64 (Steele, Lea and Flood 2014) to uint64 values.
def _splitmix64(state: np.ndarray) -> np.ndarray:
    mixed = state + np.uint64(0x9E3779B97F4A7C15)  # arrays wrap around without a warning
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def hash_of(*numbers: int) -> int:
    """Return a 64-bit hash of non-negative integers, the same on every machine."""
    state = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        state = _splitmix64(state ^ np.uint64(number & (2**64 - 1)))
    return int(state[0])


def permutation(length: int, *seed: int) -> np.ndarray:
    """Return a permutation of `range(length)`: argsort of the hashes of (seed, i)."""
    keys = _splitmix64(np.uint64(hash_of(*seed)) ^ _splitmix64(np.arange(length, dtype=np.uint64)))
    return np.argsort(keys, kind="stable")


class SourceOrder:
    """The infinite order of one source's samples: a new permutation each epoch."""

    def __init__(
        self, shard_sizes: Sequence[int], seed: int, source: int, group_shards: int = 8
    ) -> None:
        """Order shards of `shard_sizes` samples; `source` (0 or 1) gives two sources two orders."""
        self.shard_sizes, self.group_shards = list(shard_sizes), group_shards
        self.seed, self.source = seed, source
        self.starts = [0, *accumulate(self.shard_sizes)]
        self._groups = lru_cache(maxsize=2)(self._draw_groups)
        self._members = lru_cache(maxsize=4)(self._draw_members)
        self._ahead = lru_cache(maxsize=4)(self._draw_ahead)

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, draw: int) -> int:
        """Return the sample number of the source's draw `draw` in `[0, inf)`."""
        epoch, position_in_epoch = divmod(draw, len(self))
        _, ends = self._groups(epoch)
        group = bisect_right(ends, position_in_epoch)
        start = ends[group - 1] if group else 0
        return int(self._members(epoch, group)[position_in_epoch - start])

    def replacement(self, draw: int, tries: int) -> int:
        """Return the sample that takes the place of a draw's after `tries` damaged ones."""
        return self[draw + tries]

    def shards_ahead(self, draw: int) -> tuple[int, ...]:
        """Return the shards of the group that a draw is from and of the next, in order of use."""
        epoch, position_in_epoch = divmod(draw, len(self))
        return self._ahead(epoch, bisect_right(self._groups(epoch)[1], position_in_epoch))

    def _draw_ahead(self, epoch: int, group: int) -> tuple[int, ...]:
        shards, ends = self._groups(epoch)
        ahead = list(shards[group * self.group_shards : (group + 2) * self.group_shards])
        if group + 1 == len(ends):
            ahead += list(self._groups(epoch + 1)[0][: self.group_shards])
        return tuple(dict.fromkeys(map(int, ahead)))

    # Return the epoch's order of shards and the position at which each group of them ends.
    def _draw_groups(self, epoch: int) -> tuple[np.ndarray, list[int]]:
        shards = permutation(len(self.shard_sizes), self.seed, self.source, epoch)
        ends = list(accumulate(self.shard_sizes[shard] for shard in shards))
        return shards, [*ends[self.group_shards - 1 : -1 : self.group_shards], ends[-1]]

    # Return the sample numbers of one group of shards in the epoch's order.
    def _draw_members(self, epoch: int, group: int) -> np.ndarray:
        shards = self._groups(epoch)[0][group * self.group_shards : (group + 1) * self.group_shards]
        members = np.concatenate([np.arange(self.starts[s], self.starts[s + 1]) for s in shards])
        return members[permutation(len(members), self.seed, self.source, epoch, group)]

    def __reduce__(self) -> tuple[object, ...]:
        # Workers start with empty caches.
        return (SourceOrder, (self.shard_sizes, self.seed, self.source, self.group_shards))


class PositionBatches(Sampler[list[int]]):
    """One rank's batches of positions.

    Micro-batch k is `first() + (k * world_size + rank) * batch_size + [0, batch_size)`, with
    `first` called when the iteration starts. The length is always a whole epoch, so that
    Lightning's own count of batches is right after a resume.
    """

    def __init__(
        self,
        batch_size: int,
        batches: int,
        first: Callable[[], int],
        rank: int = 0,
        world: int = 1,
        samples_in_row: int | None = None,
    ) -> None:
        """Cut batches; `samples_in_row` are of one shape, and no batch may hold two."""
        self.batch_size, self.batches = batch_size, batches
        self.samples_in_row = samples_in_row
        self.rank, self.world = rank, world
        self.first = first

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        if self.samples_in_row and self.first() % self.batch_size:
            raise UserError(
                f"data.batch_size: {self.batch_size} does not divide the {self.first()} samples "
                "trained so far, and with data.buckets a batch has one shape: use the size it was."
            )
        first = self.first() + self.rank * self.batch_size
        for batch in range(self.batches):
            start = first + batch * self.batch_size * self.world
            yield list(range(start, start + self.batch_size))
