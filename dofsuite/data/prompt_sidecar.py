"""Prompt embeddings beside shards: what `python -m dofsuite.data encode` writes, and its reader.

`SHARDS/prompts/` is a folder of shards itself: tars of the same names with the same samples in the
same order, indexes, checksums and a manifest. A sample holds `prompts.safetensors`: `tokens`
[k, n, d] and `pooled` [k, p] in float16, rounded as in training, for its caption and, where
mirroring changes it, for the mirrored one; and a JSON with these captions. A tar gets its name once
it is complete and the manifest comes last, so that a run that was stopped goes on with what is
missing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from dofsuite.data.manifest import MANIFEST_FILE, Manifest, Verify, fingerprint, verify_shards
from dofsuite.data.remote import join
from dofsuite.data.sample_record import mirror_caption, read_record
from dofsuite.data.shards import Sample, ShardReader, ShardWriter, index_of, shard_entry
from dofsuite.errors import UserError
from dofsuite.files import make_folder

FOLDER = "prompts"
MEMBER = "prompts.safetensors"
# A sample's embedding, float16 on the CPU: tokens [n, d], pooled [p].
EncodeRow = Callable[[str], tuple[Tensor, Tensor]]
# Of a sample beside its numbers: tar headers, JSON, index.
OVERHEAD_BYTES = 4096


def sidecar_folder(folder: Path) -> Path:
    return folder / FOLDER


def captions_of(sample: Sample) -> list[str]:
    """Return a sample's caption, and the mirrored one where it is another."""
    caption = read_record(sample.members, f"{sample.shard}: {sample.key}").caption
    return list(dict.fromkeys([caption, mirror_caption(caption)]))


# --- writing ---


def encode_prompts(
    folder: Path, encode_row: EncodeRow, encoder: str, say: Callable[[str], None]
) -> Manifest:
    """Write the embeddings of all captions of a folder of shards, or what is missing of them.

    Args:
        folder: The shards.
        encode_row: Encodes one caption.
        encoder: Name of the text encoders.
        say: Is told bytes and disk before the first caption is encoded.

    Raises:
        UserError: The shards are damaged, captions are missing, the folder holds embeddings of
            other encoders, or the disk has not the room.
    """
    # What there is to encode
    reader = ShardReader(folder)
    manifest, output = reader.manifest, sidecar_folder(folder)
    verify_shards(folder, manifest)
    missing = manifest.samples - manifest.samples_with_caption
    if missing:
        raise UserError(
            f"{folder}: {missing} of {manifest.samples} samples have no caption; put a .txt file "
            "next to each image and pack again with python -m dofsuite.data pack."
        )
    if (output / MANIFEST_FILE).is_file():
        PromptSidecar(reader, encoder)  # of these shards and these encoders, or a sentence
    done, todo = _plan(reader, output, encoder)

    # Bytes and disk
    rows, per_row = sum(todo.values()), sum(x.numel() * x.element_size() for x in encode_row(""))
    needed = rows * per_row + OVERHEAD_BYTES * sum(reader.shard_sizes[i] for i in todo)
    free = shutil.disk_usage(folder).free
    say(
        f"{rows} captions to encode in {len(todo)} of {len(reader.shard_sizes)} shards of {folder}:"
        f" {needed / 1e9:.3f} GB, {free / 1e9:.1f} GB free on its disk"
    )
    if needed > free:
        raise UserError(
            f"{folder}: {needed / 1e9:.1f} GB are needed for the embeddings and {free / 1e9:.1f} "
            "GB are free on its disk; free some space and start again."
        )

    # Shards in order: those that are complete are kept
    make_folder(output)
    for stale in output.glob(".shard-*.tmp-*"):
        stale.unlink()
    bar = tqdm(total=rows, desc="encode", unit="caption", disable=None)
    with bar, ShardWriter(output, samples_per_shard=manifest.samples) as writer:
        for number in range(len(reader.shard_sizes)):
            if number in done:
                writer.entries.append(done[number])
                continue
            for key, members in _encoded(reader, number, encode_row, encoder, bar):
                writer.add(key, members)
            writer.complete_shard()
        return writer.close(
            source=f"prompts of {manifest.source}",
            licence=manifest.licence,
            split=manifest.split,
            depth_kind=None,
            depth_unit=None,
            encoded={"encoder": encoder, "shards": fingerprint(reader.manifest)},
        )


def _plan(reader: ShardReader, output: Path, encoder: str) -> tuple[dict[int, Any], dict[int, int]]:
    """Return the entries of shards that are complete, and the number of rows of the others."""
    done, todo = {}, {}
    for number in tqdm(range(len(reader.shard_sizes)), desc="look", unit="shard", disable=None):
        wanted = {
            sample.key: {"captions": captions_of(sample), "encoder": encoder}
            for sample in _samples(reader, number)
        }
        tar = output / f"shard-{number:06d}.tar"
        if tar.is_file() and _stored(tar) == wanted:
            done[number] = shard_entry(tar, len(wanted))
        else:
            todo[number] = sum(len(record["captions"]) for record in wanted.values())
    return done, todo


def _stored(tar: Path) -> dict[str, Any] | None:
    # The records of a complete shard of embeddings; None where it is damaged.
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


def _encoded(
    reader: ShardReader, number: int, encode_row: EncodeRow, encoder: str, bar: Any
) -> Iterator[tuple[str, dict[str, bytes]]]:
    for sample in _samples(reader, number):
        captions = captions_of(sample)
        tokens, pooled = zip(*(encode_row(caption) for caption in captions), strict=True)
        bar.update(len(captions))
        yield (
            sample.key,
            {
                MEMBER: save({"tokens": torch.stack(tokens), "pooled": torch.stack(pooled)}),
                "json": json.dumps({"captions": captions, "encoder": encoder}).encode(),
            },
        )


# --- reading ---


class PromptSidecar:
    """The embeddings beside a folder of shards, by sample number."""

    def __init__(self, reader: ShardReader, encoder: str) -> None:
        """Open the embeddings of `reader`'s shards.

        Raises:
            UserError: They are damaged, of other shards or of other text encoders.
        """
        self.folder = join(reader.folder, FOLDER)
        with _mended(self.folder):
            self.reader = ShardReader(self.folder, reader.remote)
        said = self.reader.manifest.encoded
        if said.get("encoder") != encoder:
            raise UserError(
                f"{self.folder}: these embeddings are of {said.get('encoder')} and not of "
                f"{encoder}; remove the folder and encode again with python -m dofsuite.data "
                "encode, or set data.read_prompts: false."
            )
        if said.get("shards") != fingerprint(reader.manifest):
            raise UserError(
                f"{self.folder}: these embeddings are of other shards than those beside them; "
                "remove the folder and encode again with python -m dofsuite.data encode."
            )

    def verify(self, verify: Verify) -> None:
        """Check every tar; remote ones when they are copied. Raises as `verify_shards`."""
        if not isinstance(self.folder, Path):
            return
        with _mended(self.folder):
            verify_shards(self.folder, self.reader.manifest, verify)

    def read(self, number: int, caption: str) -> tuple[Tensor, Tensor]:
        """Return tokens [n, d] and pooled [p] of a sample's caption, in float16.

        Raises:
            UserError: The sample is damaged, or its caption was not encoded.
        """
        with _mended(self.folder):
            sample = self.reader.read(number)
        captions = json.loads(sample.members["json"])["captions"]
        if caption not in captions:
            raise UserError(
                f"{sample.shard}: {sample.key}: its caption is not the one that was encoded; "
                f"remove {self.folder} and encode again with python -m dofsuite.data encode."
            )
        rows, k = load(sample.members[MEMBER]), captions.index(caption)
        return rows["tokens"][k], rows["pooled"][k]


@contextmanager
def _mended(folder: Path | str) -> Iterator[None]:
    """End a sentence about shards with what to do about embeddings."""
    try:
        yield
    except UserError as error:
        what = str(error).partition(": copy")[0].partition(": pack")[0].rstrip(".")
        raise UserError(
            f"{what}; it holds prompt embeddings: remove {folder} and encode again with "
            "python -m dofsuite.data encode."
        ) from error
