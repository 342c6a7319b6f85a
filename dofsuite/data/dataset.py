"""Map-style datasets over shards, and their loader; samples are decoded in the loader's workers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dofsuite.data.batch import Batch, collate, decode_sample, flip, resize_and_crop
from dofsuite.data.buckets import BucketOrder, nearest_shape
from dofsuite.data.damage import Skipped, remark_of_pickles, too_many
from dofsuite.data.manifest import PROMPTS
from dofsuite.data.sampler import SourceOrder
from dofsuite.data.shards import ShardReader
from dofsuite.data.sidecar import VIEWS, Sidecar
from dofsuite.data.source_mix import SourceMix
from dofsuite.diffusion import sample_generator
from dofsuite.errors import UserError


class Rows(NamedTuple):
    """Shapes of batches in px, samples of one shape in a row, and each source's image sizes."""

    shapes_px: list[tuple[int, int]]
    samples_in_row: int
    sizes: list[np.ndarray]


class TrainSamples(Dataset[Any]):
    """Training samples by position in the run: `dataset[p]` depends on the seed and p alone."""

    def __init__(
        self,
        readers: Sequence[ShardReader],
        source_mix: SourceMix,
        seed: int,
        size_px: int | None,
        flip: float,
        sidecars: Sequence[Mapping[str, Sidecar]] = (),
        *,
        random_crop: bool = False,
        rows: Rows | None = None,
        skip_damaged: int = 0,
    ) -> None:
        """Mix one or two sources.

        Args:
            readers: The sources.
            source_mix: How they are mixed; its steps are counted in rows where there are `rows`.
            seed: Determines all draws, with the position.
            size_px: Side of the square; None leaves images as they are.
            flip: Probability of mirroring an image.
            sidecars: Of each source by kind, or none at all.
            random_crop: Crop at a random place instead of the center.
            rows: Aspect-ratio buckets instead of the square.
            skip_damaged: Most damaged samples that one position may skip.
        """
        self.readers, self.source_mix = readers, source_mix
        self.sidecars = sidecars
        self.seed, self.size_px = seed, size_px
        self.flip, self.random_crop = flip, random_crop
        self.rows, self.skip_damaged = rows, skip_damaged
        self.orders: list[SourceOrder | BucketOrder] = [
            SourceOrder(reader.shard_sizes, seed, source)
            if rows is None
            else BucketOrder(
                reader.shard_sizes,
                nearest_shape(rows.sizes[source], rows.shapes_px),
                seed,
                source,
                rows.samples_in_row,
            )
            for source, reader in enumerate(readers)
        ]

    def locate(self, position: int) -> tuple[int, int]:
        """Return `(source, sample number in it)` of a position."""
        source, draw = self._draw_of(position)
        return source, self.orders[source][draw]

    # Return `(source, draw of the source)` of a position; a row draws from one source.
    def _draw_of(self, position: int) -> tuple[int, int]:
        if len(self.readers) == 1:
            return 0, position
        length = self.rows.samples_in_row if self.rows else 1
        row, place = divmod(position, length)
        source, source_row = self.source_mix.source_at(row, self.seed)
        return source, source_row * length + place

    def __getitem__(self, position: int) -> dict[str, Any] | UserError:
        """Return the decoded sample of a position, or its `UserError`.

        A damaged sample is replaced by the next one in the order of its source (and bucket);
        `skipped` of the item lists them.
        """
        source, draw = self._draw_of(position)
        order, reader = self.orders[source], self.readers[source]
        reader.read_ahead(order.shards_ahead(draw))
        skipped: list[Skipped] = []
        while True:
            number = order.replacement(draw, len(skipped))
            item = self._item(source, number, draw, position)
            if not isinstance(item, UserError):
                return {**item, "skipped": skipped}
            if len(skipped) >= self.skip_damaged:
                return too_many(self.skip_damaged, str(item)) if self.skip_damaged else item
            skipped.append(Skipped(position, source, number, str(item)))

    # Read, decode, crop, mirror.
    def _item(
        self, source: int, number: int, draw: int, position: int
    ) -> dict[str, Any] | UserError:
        size_px, place = self._shape_of(source, draw), None
        if self.random_crop:
            y, x = torch.rand(2, generator=sample_generator(self.seed, position, "crop")).tolist()
            place = (y, x)
        item = _read(self.readers[source], number, size_px, place, source=source, index=position)
        chance = torch.rand((), generator=sample_generator(self.seed, position, "flip"))
        is_mirrored = float(chance) < self.flip
        if not isinstance(item, UserError) and is_mirrored:
            item = flip(item)
        sidecars = self.sidecars[source] if self.sidecars else {}
        return _with_rows(item, sidecars, number, is_mirrored)

    def _shape_of(self, source: int, draw: int) -> int | tuple[int, int] | None:
        order = self.orders[source]
        if self.rows is None or not isinstance(order, BucketOrder):
            return self.size_px
        return self.rows.shapes_px[order.bucket(draw)]


class HeldOutSamples(Dataset[Any]):
    def __init__(
        self,
        reader: ShardReader,
        size_px: int | None,
        sidecars: Mapping[str, Sidecar] | None = None,
    ) -> None:
        self.reader, self.size_px = reader, size_px
        self.sidecars = sidecars or {}

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, number: int) -> dict[str, Any] | UserError:
        # source -1: held out
        item = _read(self.reader, number, self.size_px, None, source=-1, index=number)
        return _with_rows(item, self.sidecars, number, is_mirrored=False)


# Return a decoded sample with its `place` in the run.
def _read(
    reader: ShardReader,
    number: int,
    size_px: int | tuple[int, int] | None,
    crop: tuple[float, float] | None,
    **place: int,
) -> dict[str, Any] | UserError:
    # An error is returned as a value: raised in a worker it would arrive wrapped in a traceback.
    try:
        sample = reader.read(number)
        item = decode_sample(sample, reader.manifest.depth_kind)
        remark = remark_of_pickles(sample.shard, set(sample.members))
        return {**resize_and_crop(item, size_px, crop), **place, "remark": remark}
    except UserError as error:
        return error


# Add what side-cars hold of a sample, as it is or mirrored.
def _with_rows(
    item: dict[str, Any] | UserError,
    sidecars: Mapping[str, Sidecar],
    number: int,
    is_mirrored: bool,
) -> dict[str, Any] | UserError:
    if isinstance(item, UserError):
        return item
    try:
        for kind, sidecar in sidecars.items():
            row = item["caption"] if kind == PROMPTS else VIEWS[is_mirrored]
            item |= sidecar.read(number, row)
    except UserError as error:
        return error
    return item


class Loaded(NamedTuple):
    """A batch, and what was met on the way to it."""

    batch: Batch
    skipped: list[Skipped]
    remarks: list[str]


def collate_or_error(items: list[dict[str, Any] | UserError]) -> Loaded | UserError:
    errors = [item for item in items if isinstance(item, UserError)]
    samples = [item for item in items if not isinstance(item, UserError)]
    try:
        if errors:
            return errors[0]
        skipped = [each for item in samples for each in item.get("skipped", [])]
        remarks = [item["remark"] for item in samples if item.get("remark")]
        return Loaded(collate(samples), skipped, remarks)
    except UserError as error:
        return error


class BatchLoader(DataLoader[Any]):
    """A DataLoader of `Batch` that raises a worker's `UserError` as it was.

    `ShardData` keeps the position; the two empty methods tell Lightning that the loader can be
    resumed.
    """

    # What is done with a skipped sample and a remark; set where samples may be skipped.
    on_skip: Callable[[Skipped], None] | None = None
    on_remark: Callable[[str], None] | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for loaded in super().__iter__():
            if isinstance(loaded, UserError):
                raise loaded
            for skipped in loaded.skipped:
                assert self.on_skip is not None, "a sample was skipped and nobody counts it"
                self.on_skip(skipped)
            if self.on_remark is not None:
                for remark in loaded.remarks:
                    self.on_remark(remark)
            yield loaded.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
