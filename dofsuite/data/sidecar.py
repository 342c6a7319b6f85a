"""Side-cars of shards: what frozen networks make of their samples, computed before training.

`SHARDS/KIND/` is a folder of shards itself: tars of the same names with the same samples in the
same order, indexes, checksums and a manifest, which names the networks. A sample holds
`KIND.safetensors`, its rows stacked, and a JSON that says of what the rows are. Rows of `prompts`
are of the caption and, where mirroring changes it, of the mirrored one; rows of the other kinds are
of the image as training sees it, and of its mirror image. A tar gets its name once it is complete
and the manifest comes last, so that a run that was stopped goes on with what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from dofsuite.data.batch import decode_sample, resize_and_crop
from dofsuite.data.manifest import (
    KINDS,
    MANIFEST_FILE,
    PROMPTS,
    Manifest,
    Verify,
    fingerprint,
    sha256_of,
    verify_shards,
)
from dofsuite.data.remote import join
from dofsuite.data.sample_record import mirror_caption, read_record
from dofsuite.data.shards import Sample, ShardReader, ShardWriter, index_of, shard_entry
from dofsuite.errors import UserError
from dofsuite.files import claimed, free_bytes, parse_json
from dofsuite.images import IMAGE_EXTENSIONS

# Rows of the kinds that are of images.
VIEWS = ["as stored", "mirrored"]
# Of a sample beside its numbers: tar headers, JSON, index.
OVERHEAD_BYTES = 4096

# A caption, or an image [3, h, w] in [0, 1], to its rows' tensors on the CPU, by name.
EncodeRow = Callable[[Any], dict[str, Tensor]]


@runtime_checkable
class Beforehand(Protocol):
    """What a model may have computed of its data before training."""

    @property
    def name(self) -> str:
        """Name the networks; a side-car of another name is refused."""

    def load(self) -> EncodeRow:
        """Load them."""


class Encoder(NamedTuple):
    """Computes one kind of side-car."""

    kind: str
    # As `name_of`.
    name: str
    encode: EncodeRow
    # Side of the images; of no matter for prompts.
    size_px: int | None = None

    def inputs_of(self, sample: Sample) -> list[Any]:
        """Return what the rows of a sample are of: captions, or the image and its mirror image."""
        if self.kind == PROMPTS:
            return captions_of(sample)
        # As `TrainSamples` reads it; depth maps are not decoded
        members = {k: v for k, v in sample.members.items() if k in IMAGE_EXTENSIONS}
        item = decode_sample(sample._replace(members=members), None)
        image = resize_and_crop(item, self.size_px)["image"]
        return [image, image.flip(-1)]

    def record_of(self, sample: Sample) -> dict[str, Any]:
        """Return the JSON of a sample: of what its rows are, and by which networks."""
        if self.kind == PROMPTS:
            return {"captions": captions_of(sample), "encoder": self.name}
        images = [sha256_of(v) for k, v in sample.members.items() if k in IMAGE_EXTENSIONS]
        return {"views": VIEWS, "images": images, "encoder": self.name}

    def bytes_per_row(self) -> int:
        side = self.size_px or 1
        blank = "" if self.kind == PROMPTS else torch.zeros(3, side, side)
        return sum(row.numel() * row.element_size() for row in self.encode(blank).values())


def name_of(kind: str, networks: str, size_px: int | None, precision: str) -> str:
    """Name what rows of a kind follow from: networks, and for images their side and precision."""
    return networks if kind == PROMPTS else f"{networks} at {size_px} px under {precision}"


def has_squares(size_px: int | None, crop: object, buckets: object) -> bool:
    """Whether a training's images are centered squares of one side, as rows of images are."""
    return size_px is not None and crop == "center" and not buckets


def sidecar_folder(folder: Path, kind: str) -> Path:
    return folder / kind


def captions_of(sample: Sample) -> list[str]:
    """Return a sample's caption, and the mirrored one where it is another."""
    caption = read_record(sample.members, f"{sample.shard}: {sample.key}").caption
    return list(dict.fromkeys([caption, mirror_caption(caption)]))


def rows_of(record: dict[str, Any]) -> list[str]:
    rows: list[str] = record["captions" if "captions" in record else "views"]
    return rows


# --- writing ---


class Plan(NamedTuple):
    """What is to be written beside one folder of shards."""

    folder: Path
    reader: ShardReader
    encoder: Encoder
    output: Path
    # Entries of the shards that are complete, and the number of rows of the others.
    done: dict[int, Any]
    todo: dict[int, int]
    bytes: int


def write_sidecars(
    folders: Sequence[Path], encoders: Sequence[Encoder], say: Callable[[str], None]
) -> dict[Path, Manifest]:
    """Write side-cars of all folders of shards, or what is missing of them, and return them.

    Args:
        folders: The shards.
        encoders: Of each kind one.
        say: Is told bytes and disk, of all of them, before the first row is computed.

    Raises:
        UserError: Shards are damaged, captions are missing, a folder holds a side-car of other
            networks, or the disk has not the room.
    """
    plans = [_plan(folder, encoder) for encoder in encoders for folder in folders]
    for plan in plans:
        folder, free = plan.folder, free_bytes(plan.folder)
        say(
            f"{sum(plan.todo.values())} {_rows_name(plan.encoder.kind)} to encode as "
            f"{KINDS[plan.encoder.kind]} in {len(plan.todo)} of {len(plan.reader.shard_sizes)} "
            f"shards of {folder}: {plan.bytes / 1e9:.3f} GB, {free / 1e9:.1f} GB free on its disk"
        )
    _check_disks(plans)
    written = {}
    for plan in plans:
        with claimed(plan.output):
            written[plan.output] = _write(plan)
    return written


def _rows_name(kind: str) -> str:
    return "captions" if kind == PROMPTS else "images, as they are and mirrored,"


def _plan(folder: Path, encoder: Encoder) -> Plan:
    # Whole shards, with what is to be encoded
    reader, output = ShardReader(folder), sidecar_folder(folder, encoder.kind)
    manifest = reader.manifest
    verify_shards(folder, manifest)
    missing = manifest.samples - manifest.samples_with_caption
    if encoder.kind == PROMPTS and missing:
        raise UserError(
            f"{folder}: {missing} of {manifest.samples} samples have no caption; put a .txt file "
            "next to each image and pack again with python -m dofsuite.data pack."
        )
    if (output / MANIFEST_FILE).is_file():
        Sidecar(reader, encoder.kind, encoder.name)  # of these shards and networks, or a sentence

    # Shards that are complete, and the rows of the others
    done, todo = {}, {}
    for number in tqdm(range(len(reader.shard_sizes)), desc="look", unit="shard", disable=None):
        wanted = {s.key: encoder.record_of(s) for s in _samples(reader, number)}
        tar = output / f"shard-{number:06d}.tar"
        if tar.is_file() and _stored(tar) == wanted:
            done[number] = shard_entry(tar, len(wanted))
        else:
            todo[number] = sum(len(rows_of(record)) for record in wanted.values())
    size = sum(todo.values()) * encoder.bytes_per_row() if todo else 0
    size += OVERHEAD_BYTES * sum(reader.shard_sizes[number] for number in todo)
    return Plan(folder, reader, encoder, output, done, todo, size)


def _check_disks(plans: Sequence[Plan]) -> None:
    disks: dict[int, list[Plan]] = {}
    for plan in plans:
        disks.setdefault(plan.folder.stat().st_dev, []).append(plan)
    for there in disks.values():
        folder, needed = there[0].folder, sum(plan.bytes for plan in there)
        free = free_bytes(folder)
        if needed > free:
            raise UserError(
                f"{folder}: {needed / 1e9:.1f} GB are needed for what is to be encoded and "
                f"{free / 1e9:.1f} GB are free on its disk; free some space and start again."
            )


def _write(plan: Plan) -> Manifest:
    # Left by a run that was stopped
    reader, encoder = plan.reader, plan.encoder
    manifest = reader.manifest
    for stale in plan.output.glob(".shard-*.tmp-*"):
        stale.unlink()

    # Shards in order: those that are complete are kept
    bar = tqdm(total=sum(plan.todo.values()), desc=encoder.kind, unit="row", disable=None)
    with bar, ShardWriter(plan.output, samples_per_shard=manifest.samples) as writer:
        for number in range(len(reader.shard_sizes)):
            if number in plan.done:
                writer.entries.append(plan.done[number])
                continue
            for sample in _samples(reader, number):
                rows = [encoder.encode(each) for each in encoder.inputs_of(sample)]
                stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
                record = json.dumps(encoder.record_of(sample)).encode()
                writer.add(
                    sample.key, {f"{encoder.kind}.safetensors": save(stacked), "json": record}
                )
                bar.update(len(rows))
            writer.complete_shard()
        return writer.close(
            source=f"{encoder.kind} of {manifest.source}",
            licence=manifest.licence,
            split=manifest.split,
            depth_kind=None,
            depth_unit=None,
            encoded={"encoder": encoder.name, "shards": fingerprint(manifest)},
        )


def _stored(tar: Path) -> dict[str, Any] | None:
    # The records of a complete shard of a side-car; None where it is damaged.
    index_file = tar.with_suffix(".index.json")
    try:
        index = index_of(tar)
        if json.loads(index_file.read_bytes()) != index:
            return None
        with open(tar, "rb") as file:
            return {key: _record_at(file, members) for key, members in index}
    except Exception:  # it is written anew
        return None


def _record_at(file: Any, members: Any) -> Any:
    start, size = members["json"][:2]
    file.seek(start)
    return json.loads(file.read(size))


def _samples(reader: ShardReader, number: int) -> Iterator[Sample]:
    first = sum(reader.shard_sizes[:number])
    return (reader.read(first + i) for i in range(reader.shard_sizes[number]))


# --- reading ---


class Sidecar:
    """One kind of side-car of a folder of shards, by sample number."""

    def __init__(self, reader: ShardReader, kind: str, name: str) -> None:
        """Open the side-car of `reader`'s shards.

        Raises:
            UserError: It is damaged, or of other shards or other networks (`name_of`).
        """
        self.kind, self.folder = kind, join(reader.folder, kind)
        with self._mended():
            self.reader = ShardReader(self.folder, reader.remote)
        said, holds = self.reader.manifest.encoded, KINDS[kind]
        if said.get("encoder") != name:
            raise UserError(
                f"{self.folder}: these {holds} are of {said.get('encoder')} and not of {name}; "
                "remove the folder and encode again with python -m dofsuite.data encode, or set "
                f"data.read_{kind}: false."
            )
        if said.get("shards") != fingerprint(reader.manifest):
            raise UserError(
                f"{self.folder}: these {holds} are of other shards than those beside them; remove "
                "the folder and encode again with python -m dofsuite.data encode."
            )

    def verify(self, verify: Verify) -> None:
        """Check every tar; remote ones when they are copied. Raises as `verify_shards`."""
        if not isinstance(self.folder, Path):
            return
        with self._mended():
            verify_shards(self.folder, self.reader.manifest, verify)

    def read(self, number: int, row: str) -> dict[str, Tensor]:
        """Return the tensors of one row of a sample: of a caption, or of one of `VIEWS`.

        Raises:
            UserError: The sample is damaged, or its caption was not encoded.
        """
        with self._mended():
            sample = self.reader.read(number)
        # Its rows and their tensors, whatever lies there
        try:
            rows = list(rows_of(parse_json(sample.members["json"])))
            tensors = load(sample.members[f"{self.kind}.safetensors"])
        except (SafetensorError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{sample.shard}: {sample.key}: it holds no {KINDS[self.kind]} "
                f"({type(error).__name__}); remove {self.folder} and encode again with python -m "
                "dofsuite.data encode."
            ) from error
        if row not in rows:
            raise UserError(
                f"{sample.shard}: {sample.key}: its caption is not the one that was encoded; "
                f"remove {self.folder} and encode again with python -m dofsuite.data encode."
            )
        return {name: tensor[rows.index(row)] for name, tensor in tensors.items()}

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """End a sentence about shards with what to do about a side-car."""
        try:
            yield
        except UserError as error:
            what = str(error).partition(": copy")[0].partition(": pack")[0].rstrip(".")
            raise UserError(
                f"{what}; it holds {KINDS[self.kind]}: remove {self.folder} and encode again with "
                "python -m dofsuite.data encode."
            ) from error
