"""The manifest of a folder of shards, and the check of the shards against it.

A folder of shards holds `manifest.json`, the shards `NAME.tar` (plain WebDataset tars) and an index
`NAME.index.json` for each (offset, size and sha256 of every file in the tar). webdataset alone
drops the rest of a truncated tar without a warning; here a shard that is missing, truncated or
altered ends the run before it begins, with a sentence that names it.
"""

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
    """One shard: its file name without `.tar`, sizes and checksums."""

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str


@dataclass(frozen=True)
class Manifest:
    """Contents of `manifest.json`."""

    source: str
    """Where the images are from: a tag."""
    licence: str
    """License of the images."""
    split: str
    """`train`, `val` or `test`."""
    depth_kind: str | None
    """`disparity` (larger is nearer) or `depth` (larger is farther); None without depth maps."""
    depth_unit: str | None
    """Unit of the stored depth maps: `relative`, `m`, `mm`, `1/m`, `px`."""
    samples: int
    samples_with_depth: int
    shards: tuple[ShardEntry, ...]
    format_version: int = FORMAT_VERSION
    samples_with_caption: int = 0
    """Samples that have a caption; 0 in manifests from before captions were counted."""
    samples_with_exif: int = 0
    """Samples whose EXIF has both f-number and focal length; 0 likewise."""


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, last of all: a folder that has it is complete."""
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
    # Known fields; those without a default are required
    if data["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"format_version {data['format_version']} where {FORMAT_VERSION} is expected"
        )
    shards = tuple(ShardEntry(**shard) for shard in data["shards"])
    given = {
        f.name: data[f.name] for f in fields(Manifest) if f.name in data or f.default is MISSING
    }
    manifest = Manifest(**{**given, "shards": shards})

    # Consistency
    counts = [shard.samples for shard in shards]
    if manifest.samples != sum(counts) or min(counts, default=1) < 1:
        raise ValueError("its sample counts do not add up")
    if any(Path(shard.name).name != shard.name for shard in shards):
        raise ValueError("a shard lies outside the folder")
    if manifest.depth_kind not in (*DEPTH_KINDS, None):
        raise ValueError(f"depth_kind is {manifest.depth_kind!r}")
    return manifest


def verify_shards(folder: Path, manifest: Manifest, verify: Verify = "full") -> None:
    """Check that every shard and index is present and intact.

    `full` compares sizes and sha256; what was intact is cached by size and modification time in
    `.verified.json` (if the folder is writable), so that later starts read only what has changed
    since. `size` compares sizes alone. Either way every file read from a tar later is compared with
    its own sha256.

    Raises:
        UserError: A shard is missing, truncated or altered; it is named.
    """
    verified = _read_verified(folder)
    found = {}
    for shard in manifest.shards:
        _check_size(folder, shard)
        if verify == "full":
            checksums = {".tar": shard.sha256, ".index.json": shard.index_sha256}
            files = [(folder / f"{shard.name}{end}", sha256) for end, sha256 in checksums.items()]
            stats = [[path.stat().st_size, path.stat().st_mtime_ns] for path, _ in files]
            found[shard.name] = [*stats, shard.sha256, shard.index_sha256]
            if verified.get(shard.name) != found[shard.name]:
                _check_sha256(files)
    # A read-only folder is read in full at every start instead.
    if verify == "full" and found != verified:
        with contextlib.suppress(OSError, UserError):
            write_json(folder / VERIFIED_FILE, found)


def _read_verified(folder: Path) -> dict[str, Any]:
    try:
        verified = json.loads((folder / VERIFIED_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return verified if isinstance(verified, dict) else {}


def _check_size(folder: Path, shard: ShardEntry) -> None:
    path = folder / f"{shard.name}.tar"
    for needed in (path, folder / f"{shard.name}.index.json"):
        check_is_file(needed)
    size = path.stat().st_size
    if size != shard.bytes:
        state = "truncated" if size < shard.bytes else "too long"
        raise UserError(
            f"{path}: the shard is {state} ({size} bytes of {shard.bytes}): copy or pack it again."
        )


def check_is_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: this file is missing: copy it again or pack the shards again.")


def _check_sha256(files: list[tuple[Path, str]]) -> None:
    for path, expected in files:
        with open(path, "rb") as file:
            check_sha256(path, hashlib.file_digest(file, "sha256").hexdigest(), expected)


def check_sha256(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise UserError(
            f"{path}: the file was altered (its sha256 differs): copy or pack it again."
        )
