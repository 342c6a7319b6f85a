"""Shards: plain WebDataset tars with an index of their members, for random access.

Reading is `os.pread` at an indexed offset: no streaming, no `pipe:` URLs, no pickles, and any
sample in O(1). Every member read is compared with its sha256. `decode.py` decodes the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from dofsuite.data.manifest import (
    MANIFEST_FILE,
    Manifest,
    ShardEntry,
    check_sha256,
    parse_index,
    sha256_of,
)
from dofsuite.data.remote import RemoteCache, join
from dofsuite.data.sample_record import read_record
from dofsuite.data.shard_files import files_of
from dofsuite.data.tar_index import check_key, index_of
from dofsuite.errors import UserError
from dofsuite.files import (
    clear_leftovers,
    held_sibling,
    read_bytes,
    readable,
    temp_sibling,
    write_bytes,
    write_json,
)

# Of the files of a shard.
ENDINGS = (".tar", ".index.json")
# Of samples in all indexes that a process keeps in memory, about 1 kB each.
MAX_INDEXED_SAMPLES = 65536


class Sample(NamedTuple):
    """An undecoded sample: path of its tar, its key, and its members' bytes by extension."""

    shard: str
    key: str
    members: dict[str, bytes]


class ShardWriter:
    """Writes shards of `samples_per_shard` samples; a tar gets its name once it is complete.

    A context manager; `close` writes the manifest.
    """

    def __init__(self, folder: Path, samples_per_shard: int = 256) -> None:
        self.folder, self.samples_per_shard = folder, samples_per_shard
        self.entries: list[ShardEntry] = []
        self.samples_with_depth = self.samples_with_caption = self.samples_with_exif = 0
        self._file: BinaryIO | None = None
        self._tar: Any = None
        self._in_shard = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._tar.close()
                self._file.close()

    def add(self, key: str, members: dict[str, bytes]) -> None:
        """Add one sample: a key without dots or slashes, and bytes by extension."""
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key):
            raise ValueError(f"{key!r} is no key: webdataset splits names at the first dot")
        if self._file is None:
            from webdataset import TarWriter

            path = self.folder / f"shard-{len(self.entries):06d}.tar"
            self._file = open(temp_sibling(path, "tmp"), "wb")
            self._tar = TarWriter(self._file, encoder=False, mtime=0, user="", group="")
        self._tar.write({"__key__": key, **members})
        self._in_shard += 1

        self._count(key, members)
        if self._in_shard == self.samples_per_shard:
            self.complete_shard()

    # What the manifest counts.
    def _count(self, key: str, members: Mapping[str, bytes]) -> None:
        record = read_record(members, key)
        self.samples_with_depth += any(extension.startswith("depth.") for extension in members)
        self.samples_with_caption += bool(record.caption)
        self.samples_with_exif += record.has_exif

    def keep(self) -> int:
        """Take over the complete shards that a stopped writer left; return their samples."""
        while True:
            tar = self.folder / f"shard-{len(self.entries):06d}.tar"
            try:
                index, data = index_of(tar), read_bytes(tar.with_suffix(".index.json"))
            except UserError:
                break
            if json.dumps(index).encode() != data or len(index) != self.samples_per_shard:
                break
            # Their metadata is counted again
            with open(tar, "rb") as file:
                for key, places in index:
                    members = dict.fromkeys(places, b"")
                    for extension in places.keys() & {"json", "txt"}:
                        start, size = places[extension][:2]
                        members[extension] = os.pread(file.fileno(), size, start)
                    self._count(key, members)
            self.entries.append(shard_entry(tar, len(index), data))
        return sum(entry.samples for entry in self.entries)

    def close(
        self,
        *,
        source: str,
        licence: str,
        split: str,
        depth_kind: str | None,
        depth_unit: str | None,
        without_exif: Mapping[str, int] | None = None,
        encoded: Mapping[str, str] | None = None,
        terms: Mapping[str, str] | None = None,
    ) -> Manifest:
        self.complete_shard()
        # Kind and unit of depth only where there is depth
        manifest = Manifest(
            source=source,
            licence=licence,
            split=split,
            depth_kind=depth_kind if self.samples_with_depth else None,
            depth_unit=depth_unit if self.samples_with_depth else None,
            samples=sum(entry.samples for entry in self.entries),
            samples_with_depth=self.samples_with_depth,
            samples_with_caption=self.samples_with_caption,
            samples_with_exif=self.samples_with_exif,
            without_exif=dict(without_exif or {}),
            encoded=dict(encoded or {}),
            terms=dict(terms or {}),
            shards=tuple(self.entries),
        )
        # Last of all: a folder that has its manifest is complete.
        write_json(self.folder / MANIFEST_FILE, asdict(manifest))
        return manifest

    def complete_shard(self) -> None:
        """End the shard that was begun, if any."""
        if self._file is None:
            return
        # Flush the tar to disk
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

        # Index and checksums
        name, temporary = f"shard-{len(self.entries):06d}", Path(self._file.name)
        index = json.dumps(index_of(temporary)).encode()
        entry = shard_entry(temporary, self._in_shard, index)
        self.entries.append(replace(entry, name=name))

        # Final names, the tar's last
        write_bytes(self.folder / f"{name}.index.json", index)
        os.replace(temporary, self.folder / f"{name}.tar")
        self._file, self._in_shard = None, 0


def shard_entry(path: Path, samples: int, index: bytes | None = None) -> ShardEntry:
    """Describe a tar for the manifest; its index is read from the file beside it by default."""
    if index is None:
        index = path.with_suffix(".index.json").read_bytes()
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ShardEntry(path.stem, samples, path.stat().st_size, sha256, sha256_of(index))


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `folder` on success and deleted on errors.

    If another process was first, its folder stays: the content is the same.
    """
    clear_leftovers(folder)
    try:
        with held_sibling(folder) as temporary:
            yield temporary
            try:
                os.rename(temporary, folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be written: {error.strerror}.") from error


class ShardReader:
    """Any sample of a set of shards, by number, in the order of the manifest."""

    def __init__(self, folder: Path | str, remote: RemoteCache | None = None) -> None:
        """Read the manifest of a folder; indexes and shards are opened when they are needed.

        Args:
            folder: A folder, or the address of a remote one (`remote.py`).
            remote: Where and how copies of remote shards are kept; None for the defaults.

        Raises:
            UserError: The manifest is missing or does not fit.
        """
        self.folder, self.remote = folder, remote
        self.files = files_of(folder, remote)
        self.manifest = self.files.manifest()
        self.shard_sizes = [shard.samples for shard in self.manifest.shards]
        self._starts = [0, *accumulate(self.shard_sizes)]
        self._indexes: dict[int, list[Any]] = {}
        self._open: dict[int, int] = {}
        self._ahead: Sequence[int] = ()

    def __len__(self) -> int:
        return self._starts[-1]

    def key(self, number: int) -> str:
        """Return the key of sample `number`, from the index."""
        shard = bisect_right(self._starts, number) - 1
        return self._index(shard)[number - self._starts[shard]][0]

    def read(self, number: int) -> Sample:
        """Return sample `number` in `[0, len)`.

        Raises:
            UserError: The shard or its index is missing or damaged, a member is truncated or
                altered, or the key is no plain name.
        """
        # Where the sample lies
        shard = bisect_right(self._starts, number) - 1
        path = str(join(self.folder, f"{self.manifest.shards[shard].name}.tar"))
        key, index = self._index(shard)[number - self._starts[shard]]
        check_key(key, path)

        # Read and check its members
        file = self._file(shard)
        members = {}
        for extension, (offset, size, sha256) in index.items():
            with readable(path):
                members[extension] = os.pread(file, size, offset)
            if sha256_of(members[extension]) != sha256:
                raise UserError(
                    f"{path}: {key}.{extension}: it is truncated or altered: copy or pack the "
                    "shard again."
                )
        return Sample(path, key, members)

    def start_of(self, number: int, extensions: Sequence[str], most: int) -> bytes:
        """Return the first `most` bytes, unchecked, of a sample's file of one of the extensions."""
        shard = bisect_right(self._starts, number) - 1
        _, index = self._index(shard)[number - self._starts[shard]]
        offset, size, _ = next(index[extension] for extension in extensions if extension in index)
        path = join(self.folder, f"{self.manifest.shards[shard].name}.tar")
        with readable(path):
            return os.pread(self._file(shard), min(size, most), offset)

    def read_ahead(self, shards: Sequence[int]) -> None:
        """Say which shards are read now and next, in this order: remote ones are copied early."""
        if shards != self._ahead:
            self._ahead = shards
            self.files.prefetch([self.manifest.shards[shard] for shard in shards])

    # Return a shard's index; the latest stay in memory.
    def _index(self, shard: int) -> list[Any]:
        if shard not in self._indexes:
            entry = self.manifest.shards[shard]
            data = self.files.index(entry)
            name = str(join(self.folder, f"{entry.name}.index.json"))
            check_sha256(name, sha256_of(data), entry.index_sha256)
            self._indexes[shard] = parse_index(data, entry, name)
            # The oldest go
            while len(self._indexes) > 1 and (
                sum(map(len, self._indexes.values())) > MAX_INDEXED_SAMPLES
            ):
                del self._indexes[next(iter(self._indexes))]
        return self._indexes[shard]

    # Return the shard's file descriptor; at most `max_open` stay open.
    def _file(self, shard: int) -> int:
        if shard not in self._open:
            if len(self._open) >= self.files.max_open:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[shard] = self.files.open(self.manifest.shards[shard], self.close)
        return self._open[shard]

    def close(self) -> None:
        for file in self._open.values():
            os.close(file)
        self._open = {}

    def __getstate__(self) -> dict[str, object]:
        # Workers open files of their own.
        return {**self.__dict__, "_open": {}, "_indexes": {}, "_ahead": ()}

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()


def write_shards(
    folder: Path,
    samples: Iterable[tuple[str, dict[str, bytes]]],
    *,
    source: str,
    licence: str,
    split: str,
    depth_kind: str | None,
    depth_unit: str | None,
    samples_per_shard: int = 256,
    without_exif: Mapping[str, int] | None = None,
    terms: Mapping[str, str] | None = None,
) -> Manifest:
    """Write a folder of shards atomically: `folder` appears once everything in it is complete.

    `without_exif` is read after the last sample, so `samples` may fill it.
    """
    with new_folder(folder) as temporary:
        with ShardWriter(temporary, samples_per_shard) as writer:
            for key, members in samples:
                writer.add(key, members)
            return writer.close(
                source=source,
                licence=licence,
                split=split,
                depth_kind=depth_kind,
                depth_unit=depth_unit,
                without_exif=without_exif,
                terms=terms,
            )
