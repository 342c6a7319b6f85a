"""Map-style data sets over shards, and the loader around them: decoding happens in the worker that reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dofsuite.data.batch import Batch, collate, decode_sample, flip, resize_and_crop
from dofsuite.data.sampler import SourceOrder
from dofsuite.data.shards import ShardReader
from dofsuite.data.source_mix import SourceMix
from dofsuite.diffusion import sample_generator
from dofsuite.errors import UserError

HELD_OUT = -1


class TrainSamples(Dataset[Any]):
    """Samples by position in the run: `dataset[p]` is a function of the seed and p, in whatever process it is asked."""

    def __init__(
        self,
        readers: Sequence[ShardReader],
        source_mix: SourceMix,
        seed: int,
        size_px: int | None,
        flip: float,
    ) -> None:
        """Mix one or two sources; `flip` is the probability of mirroring a picture."""
        self.readers, self.source_mix = readers, source_mix
        self.seed, self.size_px, self.flip = seed, size_px, flip
        self.orders = [
            SourceOrder(reader.shard_sizes, seed, source) for source, reader in enumerate(readers)
        ]

    def locate(self, position: int) -> tuple[int, int]:
        """Return `(source, sample number within it)` of a position."""
        source, draw = 0, position
        if len(self.readers) == 2:
            source, draw = self.source_mix.source_at(position, self.seed)
        return source, self.orders[source][draw]

    def __getitem__(self, position: int) -> dict[str, Any] | UserError:
        """Return the decoded sample of a position, or what is wrong with it."""
        source, number = self.locate(position)
        item = _read(self.readers[source], number, self.size_px)
        if isinstance(item, UserError):
            return item
        if self.flip > 0 and self._draw(position) < self.flip:
            item = flip(item)
        return {**item, "source": source, "index": position}

    def _draw(self, position: int) -> float:
        return float(torch.rand((), generator=sample_generator(self.seed, position, "flip")))


class HeldOutSamples(Dataset[Any]):
    """Every sample of one folder in its own order."""

    def __init__(self, reader: ShardReader, size_px: int | None) -> None:
        """Read from `reader`."""
        self.reader, self.size_px = reader, size_px

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.reader)

    def __getitem__(self, number: int) -> dict[str, Any] | UserError:
        """Return one decoded sample, or what is wrong with it."""
        item = _read(self.reader, number, self.size_px)
        return (
            item if isinstance(item, UserError) else {**item, "source": HELD_OUT, "index": number}
        )


def _read(reader: ShardReader, number: int, size_px: int | None) -> dict[str, Any] | UserError:
    try:
        return resize_and_crop(
            decode_sample(reader.read(number), reader.manifest.depth_kind), size_px
        )
    except UserError as error:
        return error  # as a value: raised in a worker it would arrive wrapped in a traceback


def collate_or_error(items: list[dict[str, Any] | UserError]) -> Batch | UserError:
    """Stack a batch, or hand on the first thing that is wrong."""
    try:
        for item in items:
            if isinstance(item, UserError):
                return item
        return collate(items)  # type: ignore[arg-type]
    except UserError as error:
        return error


class BatchLoader(DataLoader[Any]):
    """A DataLoader of `Batch` that raises a worker's UserError as one sentence.

    Its position is kept by `ShardData`; the two empty methods say to Lightning that it can be
    resumed.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield batches."""
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the state is `ShardData`'s one integer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing."""
