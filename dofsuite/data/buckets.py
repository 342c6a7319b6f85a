"""Aspect-ratio buckets: batches of one shape each, in an order that is still a closed form.

An image goes to the shape whose ratio is nearest (in the logarithm), is resized until it covers it
and cropped to it. The run's positions are cut into rows of `samples_in_row`; a row draws from one
source and one bucket, so a batch that divides a row has one shape. Which bucket follows from the
buckets' sizes by systematic sampling, with rows shuffled in blocks; the samples of a bucket come in
its own permutation, epoch after epoch. So every sample comes equally often (within an epoch of its
bucket: once), whatever the shape of the machine, and nothing is replayed on resume.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from tqdm import tqdm

from dofsuite.data.manifest import MAX_MEMBER_BYTES, Manifest, fingerprint
from dofsuite.data.remote import RemoteCache, join, read_remote
from dofsuite.data.sampler import SourceOrder, hash_of, permutation
from dofsuite.data.shards import ShardReader
from dofsuite.errors import UserError
from dofsuite.exif import ORIENTATION
from dofsuite.files import cache_folder, write_atomic
from dofsuite.images import FORMATS, IMAGE_EXTENSIONS, header_only

# Rows that are shuffled together, so that buckets do not come in a short cycle.
BLOCK_ROWS = 64
# EXIF orientations that swap height and width.
TURNED = (5, 6, 7, 8)
# Of an image file, for its size; more where its header is longer.
HEADER_BYTES = 2**16


@dataclass(frozen=True)
class Buckets:
    """Shapes of about `size_px`^2 pixels, of which each image takes the nearest."""

    ratios: tuple[str, ...] = ("9:16", "2:3", "3:4", "1:1", "4:3", "3:2", "16:9")
    """Width to height of the shapes (*ours*: those of cameras and screens)."""
    multiple_px: int = 64
    """Sides are multiples of it (*ours*, as SDXL's buckets)."""
    samples_in_row: int | None = None
    """Samples of one shape in a row: a multiple of the batch size of a rank that divides the
    samples of an optimizer step. The order depends on it. Null: batch_size x world size of the
    run's first start, so that all ranks have one shape at a time; checkpoints keep it."""

    def __post_init__(self) -> None:
        if self.multiple_px < 1:
            raise UserError("data.buckets.multiple_px: it must be at least 1.")
        if self.samples_in_row is not None and self.samples_in_row < 1:
            raise UserError("data.buckets.samples_in_row: it must be at least 1.")
        if not self.ratios:
            raise UserError("data.buckets.ratios: name one at least, such as 3:2.")
        for ratio in self.ratios:
            _ratio_of(ratio)

    def shapes_px(self, size_px: int) -> list[tuple[int, int]]:
        """Return the shapes (height, width) in px, without doubles.

        Height is size_px / sqrt(r) and width size_px sqrt(r) of a ratio r, each rounded to
        `multiple_px`.
        """
        shapes = []
        for ratio in map(_ratio_of, self.ratios):
            sides = (size_px / math.sqrt(ratio), size_px * math.sqrt(ratio))
            height, width = (
                max(1, round(side / self.multiple_px)) * self.multiple_px for side in sides
            )
            shapes.append((height, width))
        return list(dict.fromkeys(shapes))


def _ratio_of(text: str) -> float:
    try:
        width, height = map(float, str(text).split(":"))
        if not (width > 0 and height > 0 and math.isfinite(width / height)):
            raise ValueError
    except ValueError:
        raise UserError(
            f"data.buckets.ratios: width:height is expected, such as 3:2, not {text!r}."
        ) from None
    return width / height


def nearest_shape(sizes: np.ndarray, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the shape of nearest ratio, uint8 `[n]`, of images of sizes (h, w) `[n, 2]`.

    An image whose size is not known (0, 0) counts as square.
    """
    known = np.maximum(sizes.astype(np.float64), 1)
    ratios = np.log([width / height for height, width in shapes])
    nearest = np.abs(np.log(known[:, 1] / known[:, 0])[:, None] - ratios).argmin(axis=1)
    return nearest.astype(np.uint8)


class BucketOrder:
    """The infinite order of one source's samples, in rows of one bucket each."""

    def __init__(
        self, shard_sizes: Sequence[int], buckets: np.ndarray, seed: int, source: int, row: int
    ) -> None:
        """Order samples whose bucket is `buckets[number]`, in rows of `row` samples."""
        self.seed, self.source = seed, source
        self.row = row
        ends = np.cumsum(shard_sizes)
        self.orders = [
            _OneBucket(list(shard_sizes), ends, buckets, bucket, seed, source)
            for bucket in range(int(buckets.max()) + 1)
        ]
        self.counts = [len(order) for order in self.orders]
        # Samples of a bucket and those after it, and a phase below that number
        self.rests = [sum(self.counts[bucket:]) for bucket in range(len(self.counts))]
        self.phases = [
            hash_of(seed, source, bucket, 0xB0C) % max(rest, 1)
            for bucket, rest in enumerate(self.rests)
        ]
        self._cache()

    def _cache(self) -> None:
        self._block = lru_cache(maxsize=4)(self._draw_block)
        self.bucket_of = lru_cache(maxsize=4)(self._bucket_of)

    def _bucket_of(self, row: int) -> tuple[int, int]:
        """Return `(bucket, row of the bucket)` of a row.

        Of the first c rows, floor((c n_b + u) / n) go to bucket b, with n the samples of b and of
        the buckets after it and u a phase from the seed; the rest is shared out likewise.
        """
        # Rows are shuffled within their block
        block, place = divmod(row, BLOCK_ROWS)
        row = block * BLOCK_ROWS + int(self._block(block)[place])
        # This bucket's, or one of those after it
        for bucket, count in enumerate(self.counts):
            rest, phase = self.rests[bucket], self.phases[bucket]
            before = (row * count + phase) // rest
            if ((row + 1) * count + phase) // rest > before:
                return bucket, before
            row -= before
        raise AssertionError  # the last bucket with samples takes all that is left

    def __getitem__(self, draw: int) -> int:
        """Return the sample number of a draw in `[0, inf)`."""
        row, place = divmod(draw, self.row)
        bucket, bucket_row = self.bucket_of(row)
        return self.orders[bucket][bucket_row * self.row + place]

    def replacement(self, draw: int, tries: int) -> int:
        """Return the sample `tries` places later in the order of the draw's bucket."""
        row, place = divmod(draw, self.row)
        bucket, bucket_row = self.bucket_of(row)
        return self.orders[bucket][bucket_row * self.row + place + tries]

    def bucket(self, draw: int) -> int:
        return self.bucket_of(draw // self.row)[0]

    def shards_ahead(self, draw: int) -> tuple[int, ...]:
        """Return the shards of a draw's group and of the next, in order of use."""
        row, place = divmod(draw, self.row)
        bucket, bucket_row = self.bucket_of(row)
        return self.orders[bucket].shards_ahead(bucket_row * self.row + place)

    def _draw_block(self, block: int) -> np.ndarray:
        return permutation(BLOCK_ROWS, self.seed, self.source, block, 0xB10C)

    def __getstate__(self) -> dict[str, object]:
        cached = ("_block", "bucket_of")
        return {name: value for name, value in self.__dict__.items() if name not in cached}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._cache()


class _OneBucket(SourceOrder):
    # The order of one bucket's samples. All buckets take the shards in one order, so that they
    # read the same few shards at about the same time.
    def __init__(
        self,
        whole_sizes: list[int],
        ends: np.ndarray,
        buckets: np.ndarray,
        bucket: int,
        seed: int,
        source: int,
    ) -> None:
        self._given = (whole_sizes, ends, buckets, bucket, seed, source)
        first = ends - whole_sizes
        sizes = [
            int((buckets[start:end] == bucket).sum())
            for start, end in zip(first, ends, strict=True)
        ]
        super().__init__(sizes, seed, source)

    def _draw_members(self, epoch: int, group: int) -> np.ndarray:
        whole_sizes, ends = self._given[:2]
        buckets, bucket = self._given[2:4]
        shards = self._groups(epoch)[0][group * self.group_shards : (group + 1) * self.group_shards]
        firsts = [int(ends[shard]) - whole_sizes[shard] for shard in shards]
        members = np.concatenate(
            [
                first + np.flatnonzero(buckets[first : ends[shard]] == bucket)
                for shard, first in zip(shards, firsts, strict=True)
            ]
        )
        return members[permutation(len(members), self.seed, self.source, epoch, group, bucket + 1)]

    def __reduce__(self) -> tuple[object, ...]:
        return (_OneBucket, self._given)


# --- sizes of images ---


def sizes_file(manifest: Manifest) -> str:
    """Return the name of the file of image sizes beside shards of this content."""
    return f"image_sizes-{fingerprint(manifest)[:16]}.npy"


def image_sizes(reader: ShardReader) -> np.ndarray:
    """Return (height, width) in px of every upright image of a set, uint16 `[n, 2]`.

    Read from the file beside the shards, or from the cache, or else from the images' headers, once.

    Raises:
        UserError: The set is remote and has no such file.
    """
    name = sizes_file(reader.manifest)
    cached = cache_folder() / "sizes" / name
    # A remote set brings its file
    if isinstance(reader.folder, str):
        address, count = join(reader.folder, name), len(reader)
        try:
            data = read_remote(address, reader.remote or RemoteCache(), 4 * count + 4096)
        except UserError as error:
            raise UserError(
                f"data.buckets: {str(error).rstrip('.')}; write it with python -m dofsuite.data "
                "index FOLDER before the set is uploaded."
            ) from error
        return _sizes_from(data, address, count)
    for path in (reader.folder / name, cached):
        if path.is_file():
            return _sizes_from(path.read_bytes(), str(path), len(reader))

    # From the headers; beside the shards where that folder can be written
    sizes = np.zeros((len(reader), 2), dtype=np.uint16)
    for number in tqdm(range(len(reader)), desc="image sizes", unit="image", disable=None):
        sizes[number] = _size_of(reader, number)
    for path in (reader.folder / name, cached):
        try:
            write_atomic(path, lambda file: np.save(file, sizes))
            break
        except UserError:
            if path == cached:
                raise
    return sizes


# An upright image's (height, width) from its header; (0, 0) where that is damaged.
def _size_of(reader: ShardReader, number: int) -> tuple[int, int]:
    for most in (HEADER_BYTES, MAX_MEMBER_BYTES):
        with contextlib.suppress(Exception), warnings.catch_warnings():  # of anything, as decoding
            warnings.simplefilter("ignore")
            data = reader.start_of(number, IMAGE_EXTENSIONS, most)
            with header_only(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
                is_turned = image.getexif().get(ORIENTATION) in TURNED
                width, height = image.size
                return (width, height) if is_turned else (height, width)
    return 0, 0


def _sizes_from(data: bytes, name: str, count: int) -> np.ndarray:
    try:
        sizes = np.load(io.BytesIO(data), allow_pickle=False)
        if sizes.shape != (count, 2) or sizes.dtype != np.uint16:
            raise ValueError(f"an array of shape {sizes.shape}")
    except Exception as error:  # of damaged files NumPy raises nearly anything
        raise UserError(
            f"{name}: these are no sizes of {count} images ({error}): delete the file."
        ) from error
    return np.asarray(sizes)
