"""Remote shards: whole files, copied into a bounded folder that the processes of a machine share.

An address is `http(s)://`, `s3://`, `gs://` (or `gcs://`), `hf://` (a folder of a Hugging Face
repository), `file://` or `memory://`; fsspec opens it, credentials are those of its libraries'
environment. `pipe:` and chained addresses are refused: nothing is ever run.

A copy gets its name once its size and sha256 are right. While a process reads it, it holds a shared
lock (`flock`), and what is locked is never deleted; locks end with their process. One process
copies a file, the others wait for it. Where room is needed the copies that were used longest ago
go first. The folder must lie on a disk of this machine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, overload

from dofsuite.errors import UserError
from dofsuite.files import as_user_error, cache_folder, make_folder

log = logging.getLogger("dofsuite")
Result = TypeVar("Result")

# Protocol -> what must be installed for it beside fsspec.
PROTOCOLS = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "file": "",
    "memory": "",
}
CHUNK_BYTES = 8 * 2**20
# A server that says nothing for so long is given up.
SILENCE_S = 60.0
# For so long room is looked for while other processes use all that lies in the cache.
ROOM_S = 120.0
# Errors of this machine's disk, which another try does not mend.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
# No manifest is larger.
MAX_MANIFEST_BYTES = 2**30


@dataclass(frozen=True)
class RemoteCache:
    """Where copies of remote shards are kept, and how they are fetched. All defaults *ours*."""

    folder: str | None = None
    """Folder of the copies, on a disk of this machine. Null: `shards` in `$DOFSUITE_CACHE`, or in
    `~/.cache/dofsuite`."""
    max_gb: float = 100.0
    """Most that lies in it, in GB (10^9 bytes); the processes of a machine share it. At least two
    groups of eight shards of each set should fit, or shards are copied again and again."""
    prefetch: bool = True
    """Copy the shards that the order needs next while the current ones are read."""
    tries: int = 5
    """How often a copy is tried before the run ends."""
    first_wait_s: float = 1.0
    """Pause after the first failed try, doubled after every other."""

    def __post_init__(self) -> None:
        if not 0 < self.max_gb < float("inf"):
            raise UserError(f"data.remote.max_gb: it must be above 0, not {self.max_gb}.")
        if self.tries < 1 or self.first_wait_s < 0:
            raise UserError("data.remote: tries must be at least 1 and first_wait_s at least 0.")

    @property
    def path(self) -> Path:
        return Path(self.folder).expanduser() if self.folder else cache_folder() / "shards"


# --- addresses ---


def is_remote(address: str | os.PathLike[str]) -> bool:
    """Whether an address is of another machine (or of fsspec's memory), not a path.

    Raises:
        UserError: It is a `pipe:` or chained address, of an unknown protocol, or holds a password.
    """
    text = os.fspath(address)
    protocol, separator, rest = text.partition("://")
    if text.startswith("pipe:"):
        raise UserError(f"{text}: pipe: addresses run commands and are never opened: copy the set.")
    if not separator:
        return False
    if "::" in text or protocol not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        raise UserError(f"{text}: sets are read from folders and from {known}.")
    if "@" in rest.partition("/")[0] and protocol in ("http", "https"):
        raise UserError(f"{protocol}://...: take the password out of the address.")
    return True


@overload
def join(folder: Path, name: str) -> Path: ...
@overload
def join(folder: str, name: str) -> str: ...
@overload
def join(folder: Path | str, name: str) -> Path | str: ...
def join(folder: Path | str, name: str) -> Path | str:
    """Return the path or address of a file in a folder, which may be a remote one."""
    return folder / name if isinstance(folder, Path) else f"{folder.rstrip('/')}/{name}"


def file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it.

    Raises:
        UserError: A package is missing, or the address is not understood.
    """
    assert is_remote(address)
    protocol = address.partition("://")[0]
    options: dict[str, Any] = {}
    try:
        import fsspec

        if protocol in ("http", "https"):
            import aiohttp

            # No limit in all, which a large shard would pass: a limit of silence.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
            options["client_kwargs"] = {"timeout": timeout}
        return fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        package = PROTOCOLS[protocol] or "fsspec"
        raise UserError(
            f"{address}: {protocol}:// needs {package}: pip install 'dofsuite[remote]'."
        ) from error
    except ValueError as error:
        raise UserError(f"{address}: the address is not understood: {_line(error)}.") from error


def read_remote(address: str, settings: RemoteCache, max_bytes: int = MAX_MANIFEST_BYTES) -> bytes:
    """Read a small remote file, such as a manifest, into memory.

    Raises:
        UserError: It is not there, too large, or cannot be read after all tries.
    """

    def read() -> bytes:
        chunks, total = [], 0
        for chunk in _chunks(address):
            total += len(chunk)
            if total > max_bytes:
                raise UserError(f"{address}: more than {max_bytes} bytes: it is no manifest.")
            chunks.append(chunk)
        return b"".join(chunks)

    return _tried(address, settings, read)


# Stream a remote file.
def _chunks(address: str) -> Iterator[bytes]:
    files, path = file_system(address)
    protocol = address.partition("://")[0]
    # 0: one request for all of it; where that is not offered, requests in order.
    options: dict[str, Any] = {"block_size": 0} if protocol in ("http", "https", "hf") else {}
    if protocol in ("s3", "gs", "gcs"):
        options = {"block_size": CHUNK_BYTES, "cache_type": "readahead"}
    with files.open(path, "rb", **options) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


# Call `copy` until it succeeds, with longer and longer pauses.
def _tried(address: str, settings: RemoteCache, copy: Callable[[], Result]) -> Result:
    for attempt in range(1, settings.tries + 1):
        try:
            return copy()
        except (UserError, _NoRoomError):
            raise
        except FileNotFoundError as error:
            raise UserError(f"{address}: this file is missing: copy the set again.") from error
        except PermissionError as error:
            raise UserError(f"{address}: no permission: check the credentials.") from error
        except Exception as error:  # of networks every library raises its own
            if getattr(error, "errno", None) in DISK_FULL:
                raise
            reason = _line(error) or type(error).__name__
            if attempt == settings.tries:
                raise UserError(
                    f"{address}: it could not be copied in {settings.tries} tries: {reason}: "
                    "check the network and the address, or raise data.remote.tries."
                ) from error
            wait_s = settings.first_wait_s * 2 ** (attempt - 1)
            log.warning(
                "%s: try %d of %d failed: %s; again in %g s",
                address,
                attempt,
                settings.tries,
                reason,
                wait_s,
            )
            time.sleep(wait_s)
    raise AssertionError  # the last try returns or raises


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")


# --- the cache ---


class _NoRoomError(Exception):
    """Everything in the cache is in use."""


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
            sha256 = str(_tried(address, self.settings, lambda: files.ukey(path)))
        name = re.sub(r"[^A-Za-z0-9.-]", "_", address.rpartition("/")[2])[-60:]
        return self.folder / f"{_sha256(f'{address} {sha256}')[:24]}-{name}"

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
            held = _hold(path)
            if held is not None:
                return held
            try:
                with _exclusive(path.with_name(f".{path.name}.lock")):
                    if not path.exists():
                        self._copy(address, path, size, sha256, keep)
            except _NoRoomError:
                release()
                if time.monotonic() > deadline:
                    raise UserError(
                        f"data.remote.max_gb: {self.settings.max_gb:g} GB in {self.folder} are all "
                        f"in use and {address} has no room: raise it."
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
                with _exclusive(path.with_name(f".{path.name}.lock"), wait=False):
                    if not path.exists():
                        self._copy(address, path, size, sha256, keep)
            except _NoRoomError:
                return False
        return True

    # Copy a file; it gets its name once it is right.
    def _copy(
        self, address: str, path: Path, size: int | None, sha256: str | None, keep: Collection[Path]
    ) -> None:
        if size is None:
            files, inside = file_system(address)
            size = _tried(address, self.settings, lambda: files.size(inside))
            if size is None:
                raise UserError(f"{address}: the server does not say its size: download the set.")
        if size > self.max_bytes:
            raise UserError(
                f"data.remote.max_gb: {address} has {size / 1e9:.3g} GB, more than "
                f"{self.settings.max_gb:g}: raise it."
            )
        with as_user_error(path):
            _tried(address, self.settings, lambda: self._try(address, path, size, sha256, keep))

    def _try(
        self, address: str, path: Path, size: int, sha256: str | None, keep: Collection[Path]
    ) -> None:
        file = self._reserve(path, size, keep)
        try:
            # Copy, never more than was said
            hashed, total = hashlib.sha256(), 0
            for chunk in _chunks(address):
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
                raise _DamagedError("its sha256 is not the manifest's")
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        finally:
            Path(file.name).unlink(missing_ok=True)
            file.close()

    # Return a new locked file of the full size, which counts as used; old copies make room for it.
    def _reserve(self, path: Path, size: int, keep: Collection[Path]) -> BinaryIO:
        with _exclusive(self.folder / ".room.lock"):
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
            if entry.name.endswith(".lock"):
                continue
            is_copy = not entry.name.startswith(".")
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
            raise _NoRoomError


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


# Hold the lock file `path`, which is gone afterwards; not `wait`: BlockingIOError where it is held.
@contextlib.contextmanager
def _exclusive(path: Path, wait: bool = True) -> Iterator[None]:
    while True:
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Deleted by the one who held it: another file has the name now
            if os.fstat(file.fileno()).st_nlink == 0:
                continue
            try:
                yield
            finally:
                os.unlink(path)
            return


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
