"""Map-style datasets over shards, and their loader; samples are decoded in the loader's workers."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dofsuite.data.batch import Batch, collate, decode_sample, flip, resize_and_crop
from dofsuite.data.prompt_sidecar import PromptSidecar
from dofsuite.data.sampler import SourceOrder
from dofsuite.data.shards import ShardReader
from dofsuite.data.source_mix import SourceMix
from dofsuite.diffusion import sample_generator
from dofsuite.errors import UserError


class TrainSamples(Dataset[Any]):
    """Training samples by position in the run: `dataset[p]` depends on the seed and p alone."""

    def __init__(
        self,
        readers: Sequence[ShardReader],
        source_mix: SourceMix,
        seed: int,
        size_px: int | None,
        flip: float,
        sidecars: Sequence[PromptSidecar] = (),
    ) -> None:
        """Mix one or two sources; `flip` is the probability of mirroring an image."""
        self.readers, self.source_mix = readers, source_mix
        self.sidecars = sidecars
        self.seed, self.size_px = seed, size_px
        self.flip = flip
        self.orders = [
            SourceOrder(reader.shard_sizes, seed, source) for source, reader in enumerate(readers)
        ]

    def locate(self, position: int) -> tuple[int, int]:
        """Return `(source, sample number in it)` of a position."""
        source, draw = (
            self.source_mix.source_at(position, self.seed)
            if len(self.readers) == 2
            else (0, position)
        )
        return source, self.orders[source][draw]

    def __getitem__(self, position: int) -> dict[str, Any] | UserError:
        """Return the decoded sample of a position, or its `UserError`."""
        source, number = self.locate(position)
        item = _read(self.readers[source], number, self.size_px, source=source, index=position)
        draw = torch.rand((), generator=sample_generator(self.seed, position, "flip"))
        if not isinstance(item, UserError) and float(draw) < self.flip:
            item = flip(item)
        return _with_prompt(item, self.sidecars[source] if self.sidecars else None, number)


class HeldOutSamples(Dataset[Any]):
    def __init__(
        self, reader: ShardReader, size_px: int | None, sidecar: PromptSidecar | None = None
    ) -> None:
        self.reader, self.size_px = reader, size_px
        self.sidecar = sidecar

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, number: int) -> dict[str, Any] | UserError:
        # source -1: held out
        item = _read(self.reader, number, self.size_px, source=-1, index=number)
        return _with_prompt(item, self.sidecar, number)


# Return a decoded sample with its `place` in the run.
def _read(
    reader: ShardReader, number: int, size_px: int | None, **place: int
) -> dict[str, Any] | UserError:
    # An error is returned as a value: raised in a worker it would arrive wrapped in a traceback.
    try:
        item = decode_sample(reader.read(number), reader.manifest.depth_kind)
        return {**resize_and_crop(item, size_px), **place}
    except UserError as error:
        return error


# Add the embedding of a sample's caption, mirrored or not.
def _with_prompt(
    item: dict[str, Any] | UserError, sidecar: PromptSidecar | None, number: int
) -> dict[str, Any] | UserError:
    if sidecar is None or isinstance(item, UserError):
        return item
    try:
        return {**item, "prompt": sidecar.read(number, item["caption"])}
    except UserError as error:
        return error


def collate_or_error(items: list[dict[str, Any] | UserError]) -> Batch | UserError:
    errors = [item for item in items if isinstance(item, UserError)]
    samples = [item for item in items if not isinstance(item, UserError)]
    try:
        return errors[0] if errors else collate(samples)
    except UserError as error:
        return error


class BatchLoader(DataLoader[Any]):
    """A DataLoader of `Batch` that raises a worker's `UserError` as it was.

    `ShardData` keeps the position; the two empty methods tell Lightning that the loader can be
    resumed.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
