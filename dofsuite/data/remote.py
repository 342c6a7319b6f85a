"""Addresses of remote sets, and reading from them with retries.

An address is `http(s)://`, `s3://`, `gs://` (or `gcs://`), `hf://` (a folder of a Hugging Face
repository), `file://` or `memory://`; fsspec opens it, credentials are those of its libraries'
environment. `pipe:` and chained addresses are refused: nothing is ever run. `shard_cache.py` keeps
copies of whole files.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

from dofsuite.errors import UserError
from dofsuite.files import cache_folder

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
# Errors of this machine's disk, which another try does not mend.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
# No manifest is larger.
MAX_MANIFEST_BYTES = 2**30


class CacheWords(NamedTuple):
    """What errors call the settings of a cache, and whose checksum a copy is compared with."""

    max_gb: str = "data.remote.max_gb"
    more_tries: str = ", or raise data.remote.tries"
    checksum: str = "the manifest's"


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
    words: ClassVar[CacheWords] = CacheWords()

    def __post_init__(self) -> None:
        if not 0 < self.max_gb < float("inf"):
            raise UserError(f"{self.words.max_gb}: it must be above 0, not {self.max_gb}.")
        if self.tries < 1 or self.first_wait_s < 0:
            raise UserError("data.remote: tries must be at least 1 and first_wait_s at least 0.")

    @property
    def path(self) -> Path:
        return Path(self.folder).expanduser() if self.folder else cache_folder() / "shards"


class NoRoomError(Exception):
    """Everything in the cache is in use."""


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
        for chunk in chunks_of(address):
            total += len(chunk)
            if total > max_bytes:
                raise UserError(f"{address}: more than {max_bytes} bytes: it is no manifest.")
            chunks.append(chunk)
        return b"".join(chunks)

    return tried(address, settings, read)


# Stream a remote file.
def chunks_of(address: str) -> Iterator[bytes]:
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
def tried(address: str, settings: RemoteCache, copy: Callable[[], Result]) -> Result:
    for attempt in range(1, settings.tries + 1):
        # What another try may mend goes on below; all else ends the run
        try:
            return copy()
        except (UserError, NoRoomError):
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
                    f"check the network and the address{settings.words.more_tries}."
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
