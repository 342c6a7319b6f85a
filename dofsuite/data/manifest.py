"""The manifest beside a folder of shards: what is in them, and how it is known that they are whole.

A folder of shards holds `manifest.json`, the shards `NAME.tar` (plain WebDataset tars) and one
`NAME.index.json` a shard (the offset, size and sha256 of every member). webdataset alone drops the
rest of a truncated tar without a word; here a shard that is missing, truncated or altered is named
and refused before a run begins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dofsuite.errors import UserError
from dofsuite.files import write_json

MANIFEST_FILE = "manifest.json"
VERIFIED_FILE = ".verified.json"
FORMAT_VERSION = 1
DEPTH_KINDS = ("disparity", "depth")

Verify = Literal["full", "size"]


@dataclass(frozen=True)
class ShardEntry:
    """One shard: its file name without `.tar`, and what makes it whole."""

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards says about itself."""

    source: str
    """Where the pictures are from: a tag."""
    licence: str
    """Under which terms they may be used."""
    split: str
    """`train`, `val` or `test`."""
    depth_kind: str | None
    """`disparity` (larger is nearer), `depth` (larger is farther), or None where no sample has a depth map."""
    depth_unit: str | None
    """Unit of the stored depth maps: `relative`, `m`, `mm`, `1/m`, `px`."""
    samples: int
    samples_with_depth: int
    shards: tuple[ShardEntry, ...]
    format_version: int = FORMAT_VERSION
    samples_with_caption: int = 0
    """Samples that have a caption; 0 in manifests from before captions were counted, as are the next."""
    samples_with_exif: int = 0
    """Samples whose EXIF has both f-number and focal length."""


def sha256_of(data: bytes) -> str:
    """Return the sha256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`; the last file of a folder of shards, so that a folder that has it is complete."""
    write_json(folder / MANIFEST_FILE, asdict(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        UserError: The folder or its manifest is missing, or the manifest is not one.
    """
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder of shards: pack one with python -m dofsuite.data."
        )
    if not path.is_file():
        raise UserError(
            f"{path}: the manifest is missing: pack the shards again with python -m dofsuite.data."
        )
    try:
        return _manifest_from(json.loads(path.read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: it is not a manifest of shards ({error}): pack the shards again."
        ) from error


def _manifest_from(data: dict[str, Any]) -> Manifest:
    if data["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"format_version {data['format_version']} where {FORMAT_VERSION} is expected"
        )
    shards = tuple(ShardEntry(**shard) for shard in data["shards"])
    given = {
        f.name: data[f.name] for f in fields(Manifest) if f.name in data or f.default is MISSING
    }
    manifest = Manifest(**{**given, "shards": shards})
    if manifest.samples != sum(shard.samples for shard in shards) or any(
        shard.samples < 1 for shard in shards
    ):
        raise ValueError("its sample counts do not add up")
    if any(Path(shard.name).name != shard.name for shard in shards):
        raise ValueError("a shard lies outside the folder")
    if manifest.depth_kind not in (*DEPTH_KINDS, None):
        raise ValueError(f"depth_kind is {manifest.depth_kind!r}")
    return manifest


def verify_shards(folder: Path, manifest: Manifest, verify: Verify = "full") -> None:
    """Check that every shard and index is there and whole.

    `full` compares sizes and sha256; what was found whole is remembered by size and time of change
    beside the shards (where that folder can be written), so that later starts read only what has
    changed since. `size` compares sizes alone. Either way every member that is read later is
    compared with its own sha256.

    Raises:
        UserError: A shard is missing, truncated or altered; it is named.
    """
    remembered = _remembered(folder)
    found = {}
    for shard in manifest.shards:
        _check_size(folder, shard)
        if verify == "full":
            stamp = [_stamp(folder / f"{shard.name}{suffix}") for suffix in (".tar", ".index.json")]
            if remembered.get(shard.name) != [*stamp, shard.sha256, shard.index_sha256]:
                _check_sha256(folder, shard)
            found[shard.name] = [*stamp, shard.sha256, shard.index_sha256]
    if verify == "full" and found != remembered:
        with contextlib.suppress(
            OSError, UserError
        ):  # a read-only folder is read in full at every start instead
            write_json(folder / VERIFIED_FILE, found)


def _remembered(folder: Path) -> dict[str, Any]:
    try:
        remembered = json.loads((folder / VERIFIED_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _check_size(folder: Path, shard: ShardEntry) -> None:
    path = folder / f"{shard.name}.tar"
    for needed in (path, folder / f"{shard.name}.index.json"):
        if not needed.is_file():
            raise UserError(
                f"{needed}: this file is missing: copy it again or pack the shards again."
            )
    size = path.stat().st_size
    if size != shard.bytes:
        state = "truncated" if size < shard.bytes else "too long"
        raise UserError(
            f"{path}: the shard is {state} ({size} bytes of {shard.bytes}): copy or pack it again."
        )


def _check_sha256(folder: Path, shard: ShardEntry) -> None:
    for path, expected in (
        (folder / f"{shard.name}.tar", shard.sha256),
        (folder / f"{shard.name}.index.json", shard.index_sha256),
    ):
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise UserError(
                    f"{path}: the file was altered (its sha256 differs): copy or pack it again."
                )
