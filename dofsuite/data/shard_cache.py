"""Copies of remote files in a bounded folder that the processes of a machine share.

A copy gets its name once its size and sha256 are right. While a process reads it, it holds a shared
lock (`flock`), and what is locked is never deleted; locks end with their process. One process
copies a file, the others wait for it. Where room is needed the copies that were used longest ago
go first. The folder must lie on a disk of this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

from dofsuite.data.manifest import sha256_of
from dofsuite.data.remote import NoRoomError, RemoteCache, chunks_of, file_system, tried
from dofsuite.errors import UserError
from dofsuite.files import as_user_error, exclusive, make_folder

# For so long room is looked for while other processes use all that lies in the cache.
ROOM_S = 120.0
# Names of copies and of what is being copied: nothing else in the folder is counted or deleted.
COPY = re.compile(r"[0-9a-f]{24}-.+")
BEING_COPIED = re.compile(r"\.[0-9a-f]+-.+\.tmp-\d+-[0-9a-f]+")


class _DamagedError(Exception):
    """A copy has another size or sha256 than it should have."""


class CachedFile:
    """A copy in use: `path`, and `descriptor`, whose lock keeps it; a context manager."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> CachedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ShardCache:
    """Copies of remote files on this machine's disk."""

    def __init__(self, settings: RemoteCache) -> None:
        """Use the folder of `settings`, which is made where it is missing."""
        self.settings = settings
        self.folder = make_folder(settings.path)
        self.max_bytes = int(settings.max_gb * 1e9)

    def path_of(self, address: str, sha256: str | None = None) -> Path:
        """Return where the copy of an address lies; another content is another file."""
        if sha256 is None:
            files, path = file_system(address)
            sha256 = str(tried(address, self.settings, lambda: files.ukey(path)))
        name = re.sub(r"[^A-Za-z0-9.-]", "_", address.rpartition("/")[2])[-60:]
        return self.folder / f"{sha256_of(f'{address} {sha256}'.encode())[:24]}-{name}"

    def open(
        self,
        address: str,
        size: int | None = None,
        sha256: str | None = None,
        *,
        release: Callable[[], object] = lambda: None,
        keep: Collection[Path] = (),
    ) -> CachedFile:
        """Return a copy of a remote file, copied first where it is missing.

        Args:
            address: The file.
            size: Its bytes; None takes what the remote says.
            sha256: Its checksum. None: nothing is compared, and the remote's own mark of a version
                (an ETag, where it has one) tells a copy from a newer file.
            release: Called where there is no room: closes what this process could open again.
            keep: Copies that are needed next and are not deleted.

        Raises:
            UserError: It is missing, cannot be copied, differs from its sha256, or there is no
                room.
        """
        path, deadline = self.path_of(address, sha256), time.monotonic() + ROOM_S
        while True:
            # The copy that is there, or one that is made now by one process
            held = _hold(path)
            if held is not None:
                return held
            try:
                with exclusive(path.with_name(f".{path.name}.lock")):
                    if not path.exists():
                        self._copy(address, path, size, sha256, keep)
            except NoRoomError:
                # What this process could open again makes room, and what others close
                release()
                keep = ()
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{self.settings.words.max_gb}: {self.settings.max_gb:g} GB in "
                        f"{self.folder} are all in use and {address} has no room: raise it."
                    ) from None
                time.sleep(0.2)

    def fetch(
        self, address: str, size: int | None, sha256: str | None, keep: Collection[Path]
    ) -> bool:
        """Copy a file ahead of its use; False where there is no room.

        Where another process copies it now, nothing is done. Raises as `open`.
        """
        path = self.path_of(address, sha256)
        if path.exists():
            return True
        with contextlib.suppress(BlockingIOError):
            try:
                with exclusive(path.with_name(f".{path.name}.lock"), wait=False):
                    if not path.exists():
                        self._copy(address, path, size, sha256, keep)
            except NoRoomError:
                return False
        return True

    # Copy a file; it gets its name once it is right.
    def _copy(
        self, address: str, path: Path, size: int | None, sha256: str | None, keep: Collection[Path]
    ) -> None:
        if size is None:
            files, inside = file_system(address)
            size = tried(address, self.settings, lambda: files.size(inside))
            if size is None:
                raise UserError(f"{address}: the server does not say its size: download the set.")
        if size > self.max_bytes:
            raise UserError(
                f"{self.settings.words.max_gb}: {address} has {size / 1e9:.3g} GB, more than "
                f"{self.settings.max_gb:g}: raise it."
            )
        with as_user_error(path):
            tried(address, self.settings, lambda: self._try(address, path, size, sha256, keep))

    def _try(
        self, address: str, path: Path, size: int, sha256: str | None, keep: Collection[Path]
    ) -> None:
        file = self._reserve(path, size, keep)
        try:
            # Copy, never more than was said
            hashed, total = hashlib.sha256(), 0
            for chunk in chunks_of(address):
                total += len(chunk)
                if total > size:
                    break
                hashed.update(chunk)
                file.write(chunk)
            # Compare
            if total != size:
                more = "more" if total > size else str(total)
                raise _DamagedError(f"{more} bytes came where {size} were expected")
            if sha256 is not None and hashed.hexdigest() != sha256:
                raise _DamagedError(f"its sha256 is not {self.settings.words.checksum}")
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        finally:
            Path(file.name).unlink(missing_ok=True)
            file.close()

    # Return a new locked file of the full size, which counts as used; old copies make room for it.
    def _reserve(self, path: Path, size: int, keep: Collection[Path]) -> BinaryIO:
        with exclusive(self.folder / ".room.lock"):
            self._make_room(size, {path.name for path in keep})
            name = f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
            file = open(self.folder / name, "xb")
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(size)
            return file

    def _make_room(self, size: int, keep: Collection[str]) -> None:
        # What lies there: copies by their last use, and what is being copied
        copies, used = [], 0
        for entry in os.scandir(self.folder):
            is_copy = COPY.fullmatch(entry.name) is not None
            if not is_copy and not BEING_COPIED.fullmatch(entry.name):
                continue
            with contextlib.suppress(FileNotFoundError):
                state = entry.stat()
                if not is_copy and _delete_unused(entry.path):
                    continue  # left by a process that was killed
                used += state.st_size
                if is_copy:
                    copies.append((state.st_mtime_ns, state.st_size, entry))

        # The oldest go, but for those in use
        for _, bytes_there, entry in sorted(copies, key=lambda copy: copy[0]):
            if used + size <= self.max_bytes:
                break
            if entry.name not in keep and _delete_unused(entry.path):
                used -= bytes_there
        if used + size > self.max_bytes:
            raise NoRoomError


# Open a copy and mark it as used; None where there is none.
def _hold(path: Path) -> CachedFile | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    # Deleted between the two lines?
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    os.utime(descriptor)
    return CachedFile(path, descriptor)


# Delete a file that no process holds.
def _delete_unused(path: str) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.unlink(path)
        return True
