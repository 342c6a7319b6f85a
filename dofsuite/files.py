"""Files that are whole or absent: written beside their final name, flushed to the disk, then renamed over it.

The temporary file lies in the same folder, because a rename is only atomic within one file system
(Lightning's own writer stages in `$TMPDIR` and copies across devices, which on a full disk destroys
the previous file).
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dofsuite.errors import UserError


@contextmanager
def as_user_error(path: Path) -> Iterator[None]:
    """Turn what a user can mend about `path` (full disk, quota, permission, a file in the way) into a `UserError`."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full; free some space and start again (the previous file is untouched)",
            errno.EDQUOT: "the disk quota is used up; free some space and start again (the previous file is untouched)",
            errno.EFBIG: "the file is larger than this system allows (the previous file is untouched)",
            errno.EROFS: "the file system is read-only; name another folder",
            errno.EACCES: "no permission to write here; name another folder or change its permissions",
            errno.EPERM: "no permission to write here; name another folder or change its permissions",
            errno.ENOTDIR: "a file lies where a folder is needed; name another folder",
            errno.EEXIST: "a file lies where a folder is needed; name another folder",
        }
        if error.errno not in reasons:
            raise
        raise UserError(f"{path}: writing: {reasons[error.errno]}.") from error


def make_folder(path: Path) -> Path:
    """Create `path` and its parents where they are missing, and return it.

    Raises:
        UserError: The folder cannot be made (permission, read-only or full disk, a file of that
            name).
    """
    with as_user_error(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def read_bytes(path: Path, key: str = "") -> bytes:
    """Read a file; `key` names the option that gave the path.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        where = f"{path}: {key}: " if key else f"{path}: "
        raise UserError(f"{where}it cannot be read ({error.strerror}); check the path.") from error


def temp_sibling(path: Path, word: str) -> Path:
    """Return a hidden name in the same folder that no one else has: two containers may have processes of one number."""
    return path.with_name(f".{path.name}.{word}-{os.getpid()}-{secrets.token_hex(4)}")


def write_atomic(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Let `write` fill a binary file that takes the name `path` only once it is complete and on the disk.

    Raises:
        UserError: The disk is full or the folder cannot be written; what was at `path` before is
            then still there.
    """
    temporary = temp_sibling(path, "tmp")
    with as_user_error(path):
        try:
            make_folder(path.parent)
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data`, whole or not at all. Raises as `write_atomic`."""
    write_atomic(path, lambda file: file.write(data) and None)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all. Raises as `write_atomic`."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, data: Any) -> None:
    """Write `data` as indented JSON, whole or not at all. Raises as `write_atomic`."""
    write_text(Path(path), json.dumps(data, indent=2, allow_nan=True) + "\n")


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a folder that takes the name `path` only once it is complete; an older one is then removed.

    Raises:
        UserError: The disk is full or the parent cannot be written; an older folder of that name is
            then still there.
    """
    temporary, previous = (temp_sibling(path, word) for word in ("tmp", "old"))
    with as_user_error(path):
        try:
            make_folder(temporary)
            fill(temporary)
            if path.exists():
                os.replace(path, previous)
            os.replace(temporary, path)
            flush_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(previous, ignore_errors=True)
