"""The manifest of a folder of shards, and the check of the shards against it.

A folder of shards holds `manifest.json`, the shards `NAME.tar` (plain WebDataset tars) and an index
`NAME.index.json` for each (offset, size and sha256 of every file in the tar). webdataset alone
drops the rest of a truncated tar without a warning; here a shard that is missing, truncated or
altered ends the run before it begins, with a sentence that names it.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dofsuite.errors import UserError
from dofsuite.files import parse_json, read_bytes, readable, write_json

MANIFEST_FILE = "manifest.json"
VERIFIED_FILE = ".verified.json"
FORMAT_VERSION = 1
MAX_MEMBER_BYTES = 512 * 2**20
# Of samples, as a manifest counts them.
COUNTS = ("samples", "samples_with_depth", "samples_with_caption", "samples_with_exif")
DEPTH_KINDS = ("disparity", "depth")
# Side-cars (`sidecar.py`) by kind, which is the folder's name: what they hold, in words.
PROMPTS = "prompts"
KINDS = {
    PROMPTS: "prompt embeddings",
    "latents": "latents",
    "focus_targets": "focus targets",
}

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
    """Contents of `manifest.json`.

    Attributes:
        source: Where the images are from: a tag.
        licence: License of the images.
        split: `train`, `val` or `test`.
        depth_kind: `disparity` (larger is nearer) or `depth` (larger is farther); None without
            depth maps.
        depth_unit: Unit of the stored depth maps: `relative`, `m`, `mm`, `1/m`, `px`.
        samples_with_caption: Samples that have a caption; 0 in manifests from before captions were
            counted.
        samples_with_exif: Samples whose EXIF has f-number, focal length and sensor width; 0
            likewise.
        without_exif: Why photographs have no EXIF (left out under `pack --require-exif`), and how
            many.
        encoded: Of a side-car: `encoder`, and `shards`, a checksum of the shards that it is of.
        terms: What licenses of the images' makers say of what is trained on them.
        curation: Of a curated set: its rules with their thresholds, networks, counts a rule.
    """

    source: str
    licence: str
    split: str
    depth_kind: str | None
    depth_unit: str | None
    samples: int
    samples_with_depth: int
    shards: tuple[ShardEntry, ...]
    format_version: int = FORMAT_VERSION
    samples_with_caption: int = 0
    samples_with_exif: int = 0
    without_exif: dict[str, int] = field(default_factory=dict)
    encoded: dict[str, str] = field(default_factory=dict)
    terms: dict[str, str] = field(default_factory=dict)
    curation: dict[str, Any] = field(default_factory=dict)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fingerprint(manifest: Manifest) -> str:
    """Identify shards by the checksums of their indexes, which hold those of all files in them."""
    return sha256_of(" ".join(shard.index_sha256 for shard in manifest.shards).encode())


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        UserError: The folder or its manifest is missing, or the manifest is not one.
    """
    path = folder / MANIFEST_FILE
    with readable(path):
        is_folder, is_there = folder.is_dir(), path.is_file()
    if not is_folder:
        raise UserError(
            f"{folder}: there is no such folder of shards: pack one with python -m dofsuite.data."
        )
    if not is_there:
        raise UserError(
            f"{path}: the manifest is missing: pack the shards again with python -m dofsuite.data, "
            "or index tars of webdataset with python -m dofsuite.data index."
        )
    return parse_manifest(read_bytes(path), str(path))


def parse_manifest(data: bytes, name: str) -> Manifest:
    """Return the manifest in a file's bytes; errors name the file `name`.

    Raises:
        UserError: It is not a manifest, or contradicts itself.
    """
    try:
        return _manifest_from(parse_json(data))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{name}: it is not a manifest of shards ({error}): pack the shards again."
        ) from error


def _manifest_from(data: dict[str, Any]) -> Manifest:
    # Known fields; those without a default are required
    if data["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"format_version {data['format_version']} where {FORMAT_VERSION} is expected"
        )
    shards = tuple(ShardEntry(**shard) for shard in data["shards"])
    given = {
        f.name: data[f.name]
        for f in fields(Manifest)
        if f.name in data or f.default is f.default_factory is MISSING
    }
    manifest = Manifest(**{**given, "shards": shards})

    # Consistency
    counts = [shard.samples for shard in shards]
    totals = [getattr(manifest, name) for name in COUNTS]
    problems = {
        "a count is no whole number": not all(
            type(number) is int for number in (*totals, *counts, *(each.bytes for each in shards))
        ),
        "its sample counts do not add up": (
            manifest.samples != sum(counts) or min(counts, default=1) < 1
        ),
        "it counts more samples with something than samples": (
            not 0 <= min(totals) <= max(totals) <= manifest.samples
        ),
        "a shard is listed twice": len({shard.name for shard in shards}) < len(shards),
        "a shard lies outside the folder": any(
            Path(shard.name).name != shard.name for shard in shards
        ),
        "a shard's name is no plain file name": not all(
            re.fullmatch(r"[\w.+-]{1,200}", shard.name) for shard in shards
        ),
        f"depth_kind is {manifest.depth_kind!r}": manifest.depth_kind not in (*DEPTH_KINDS, None),
    }
    for problem, is_there in problems.items():
        if is_there:
            raise ValueError(problem)
    return manifest


def parse_index(data: bytes, shard: ShardEntry, name: str) -> list[list[Any]]:
    """Return the index in a file's bytes, as `index_of` makes it; errors name the file `name`.

    Raises:
        UserError: It is no index, has other samples than the manifest says, or a file that lies
            outside of the tar or is too large.
    """
    # Shape, and places in the tar
    try:
        samples = parse_json(data)
        for _, members in samples if isinstance(samples, list) else [samples]:
            for extension, (start, size, sha256) in members.items():
                if not (type(start) is type(size) is int and isinstance(sha256, str)):
                    raise ValueError(f"{extension}: {[start, size, sha256]}")
                if not 0 <= start <= start + size <= shard.bytes or size > MAX_MEMBER_BYTES:
                    raise ValueError(f"{extension}: {size} bytes from {start} on")
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{name}: it is no index of a shard of {shard.bytes} bytes ({error}): copy or pack the "
            "shard again."
        ) from error
    # Neither a sample more nor one less
    if len(samples) != shard.samples:
        raise UserError(
            f"{name}: it has {len(samples)} samples and the manifest {shard.samples}: pack the "
            "shard again."
        )
    return list(samples)


def verify_shards(
    folder: Path,
    manifest: Manifest,
    verify: Verify = "full",
    say: Callable[[str], object] | None = None,
) -> None:
    """Check that every shard and index is present and intact.

    `full` compares sizes and sha256; what was intact is cached by size and modification time in
    `.verified.json` (if the folder is writable), so that later starts read only what has changed
    since. `size` compares sizes alone. Either way every file read from a tar later is compared with
    its own sha256. `say` is told of each fault, which then is no error.

    Raises:
        UserError: A shard is missing, truncated or altered; it is named.
    """
    # What was intact before
    verified: Any = {}
    with contextlib.suppress(OSError, ValueError):
        verified = parse_json((folder / VERIFIED_FILE).read_bytes())
    if not isinstance(verified, dict):
        verified = {}
    found = {}
    for shard in manifest.shards:
        try:
            _check_sizes(folder, shard)
            if verify == "full":
                found[shard.name] = _check_sums(folder, shard, verified.get(shard.name))
        except UserError as error:
            if say is None:
                raise
            say(str(error))
    # A read-only folder is read in full at every start instead.
    if verify == "full" and found != verified:
        with contextlib.suppress(OSError, UserError):
            write_json(folder / VERIFIED_FILE, found)


def _check_sizes(folder: Path, shard: ShardEntry) -> None:
    tar = folder / f"{shard.name}.tar"
    check_is_file(tar)
    check_is_file(folder / f"{shard.name}.index.json")
    size = tar.stat().st_size
    if size != shard.bytes:
        state = "truncated" if size < shard.bytes else "too long"
        raise UserError(
            f"{tar}: the shard is {state} ({size} bytes of {shard.bytes}): copy or pack it again."
        )


# Compare the checksums, unless the files are as they were when they were `verified`.
def _check_sums(folder: Path, shard: ShardEntry, verified: object) -> list[Any]:
    tar, index = folder / f"{shard.name}.tar", folder / f"{shard.name}.index.json"
    sha256 = {tar: shard.sha256, index: shard.index_sha256}
    stats = [[path.stat().st_size, path.stat().st_mtime_ns] for path in sha256]
    found = [*stats, *sha256.values()]
    if verified != found:
        for path, expected in sha256.items():
            with readable(path), open(path, "rb") as file:
                check_sha256(path, hashlib.file_digest(file, "sha256").hexdigest(), expected)
        parse_index(read_bytes(index), shard, str(index))
    return found


def check_is_file(path: Path) -> None:
    with readable(path):
        is_there = path.is_file()
    if not is_there:
        raise UserError(f"{path}: this file is missing: copy it again or pack the shards again.")


def check_sha256(path: Path | str, found: str, expected: str) -> None:
    if found != expected:
        raise UserError(
            f"{path}: the file was altered (its sha256 differs): copy or pack it again."
        )
