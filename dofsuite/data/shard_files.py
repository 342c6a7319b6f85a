"""Where the files of a set lie: a folder of this machine, or a remote one with copies here."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dofsuite.data.manifest import (
    MANIFEST_FILE,
    Manifest,
    ShardEntry,
    check_is_file,
    parse_manifest,
    read_manifest,
)
from dofsuite.data.remote import RemoteCache, is_remote, join, read_remote
from dofsuite.data.shard_cache import CachedFile, ShardCache
from dofsuite.errors import UserError
from dofsuite.files import read_bytes

# Open shards of a process: of a folder; of copies, which are kept from deletion while open.
MAX_OPEN_SHARDS = 64
MAX_OPEN_COPIES = 10


class LocalFiles:
    """The files of a folder."""

    max_open = MAX_OPEN_SHARDS

    def __init__(self, folder: Path) -> None:
        """Take a folder of shards."""
        self.folder = folder

    def manifest(self) -> Manifest:
        return read_manifest(self.folder)

    def index(self, shard: ShardEntry) -> bytes:
        path = self.folder / f"{shard.name}.index.json"
        check_is_file(path)
        return read_bytes(path)

    def open(self, shard: ShardEntry, release: Callable[[], object]) -> int:
        path = self.folder / f"{shard.name}.tar"
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"{path}: the shard cannot be opened: {error.strerror}.") from error

    def prefetch(self, shards: Sequence[ShardEntry]) -> None:
        pass


class RemoteFiles:
    """The files of a remote folder: copies in this machine's cache."""

    max_open = MAX_OPEN_COPIES

    def __init__(self, folder: str, settings: RemoteCache) -> None:
        """Take the address of a folder of shards."""
        self.folder, self.settings = folder, settings
        self.cache = ShardCache(settings)
        self._failed: dict[str, str] = {}
        self._wanted: list[ShardEntry] = []
        self._thread: threading.Thread | None = None

    def manifest(self) -> Manifest:
        address = join(self.folder, MANIFEST_FILE)
        return parse_manifest(read_remote(address, self.settings), address)

    def index(self, shard: ShardEntry) -> bytes:
        # Its bytes are not in the manifest, its checksum is.
        with self._open(f"{shard.name}.index.json", None, shard.index_sha256) as copy:
            return read_bytes(copy.path)

    def open(self, shard: ShardEntry, release: Callable[[], object]) -> int:
        return self._open(f"{shard.name}.tar", shard.bytes, shard.sha256, release).descriptor

    def _open(
        self,
        name: str,
        size: int | None,
        sha256: str,
        release: Callable[[], object] = lambda: None,
    ) -> CachedFile:
        # What could not be copied is not tried again for every sample in it.
        if name in self._failed:
            raise UserError(self._failed[name])
        try:
            return self.cache.open(
                join(self.folder, name), size, sha256, release=release, keep=self._kept()
            )
        except UserError as error:
            self._failed[name] = str(error)
            raise

    # Where the copies of the shards lie that are read now and next.
    def _kept(self) -> list[Path]:
        return [
            self.cache.path_of(join(self.folder, f"{shard.name}{ending}"), sha256)
            for shard in self._wanted
            for ending, sha256 in ((".tar", shard.sha256), (".index.json", shard.index_sha256))
        ]

    def prefetch(self, shards: Sequence[ShardEntry]) -> None:
        """Copy shards in the background, in this order, as far as there is room."""
        self._wanted = list(shards)
        if self.settings.prefetch and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._copy_wanted, daemon=True)
            self._thread.start()

    def _copy_wanted(self) -> None:
        copied: set[str] = set()
        while todo := [shard for shard in self._wanted if shard.name not in copied]:
            shard = todo[0]
            copied.add(shard.name)
            tar, index = (join(self.folder, f"{shard.name}{e}") for e in (".tar", ".index.json"))
            # What fails here fails again, and is said, when it is read.
            with contextlib.suppress(UserError, OSError):
                keep = self._kept()
                if not self.cache.fetch(tar, shard.bytes, shard.sha256, keep):
                    return
                self.cache.fetch(index, None, shard.index_sha256, keep)

    def __getstate__(self) -> dict[str, Any]:
        # Workers copy in threads of their own.
        return {**self.__dict__, "_thread": None}


def files_of(folder: Path | str, settings: RemoteCache | None) -> LocalFiles | RemoteFiles:
    """Return the files of a folder or of a remote address."""
    if is_remote(folder):
        return RemoteFiles(str(folder), settings or RemoteCache())
    return LocalFiles(Path(folder))
