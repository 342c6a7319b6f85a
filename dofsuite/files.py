"""Atomic writes: a file is complete or absent.

It is written next to its final name, flushed to disk, then renamed over it: a rename is atomic only
within one file system. (Lightning's own writer stages in `$TMPDIR` and copies across devices, which
on a full disk destroys the previous file.)
"""

import errno
import fcntl
import glob
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dofsuite.errors import UserError

# Of locking, where a file system has no locks.
NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF})
# Of reading: a wrong path, no fault of a disk.
PATH_ERRORS = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
UNTOUCHED = "(the previous file is untouched)"
# What a user can fix, by the number of the OSError.
WRITE_ERRORS = {
    errno.ENOSPC: f"the disk is full; free some space and start again {UNTOUCHED}",
    errno.EDQUOT: f"the disk quota is used up; free some space and start again {UNTOUCHED}",
    errno.EFBIG: f"the file is larger than this system allows {UNTOUCHED}",
    errno.EROFS: "the file system is read-only; name another folder",
    errno.EACCES: "no permission to write here; name another folder or change its permissions",
    errno.EPERM: "no permission to write here; name another folder or change its permissions",
    errno.ENOENT: "no folder can be made there; name another folder",
    errno.ENOTDIR: "a file lies where a folder is needed; name another folder",
    errno.EEXIST: "a file lies where a folder is needed; name another folder",
}

# How a writer in Rust (safetensors) ends its sentence about a disk.
RUST_OS_ERROR = re.compile(r"\(os error (\d+)\)")
MEGABYTE = bytes(1 << 20)


def cache_folder() -> Path:
    """Return the folder of what can be made or copied again: `$DOFSUITE_CACHE` where it is set."""
    return Path(os.environ.get("DOFSUITE_CACHE") or Path.home() / ".cache" / "dofsuite")


def free_bytes(folder: Path) -> int:
    """Return what is free on the disk of a folder, which need not exist yet."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    return shutil.disk_usage(there).free


@contextmanager
def as_user_error(path: Path) -> Iterator[None]:
    """Raise an OSError of `WRITE_ERRORS` as a `UserError` about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in WRITE_ERRORS:
            raise
        raise UserError(f"{path}: writing: {WRITE_ERRORS[error.errno]}.") from error


@contextmanager
def as_os_error(write_again: Callable[[], object]) -> Iterator[None]:
    """Raise the disk's OSError, of which a writer in C++ or Rust has made an error of its own.

    Args:
        write_again: Writes a megabyte: what C++ does not tell, a full disk says once more.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if (said := RUST_OS_ERROR.search(str(error))) is not None:
            raise OSError(int(said[1]), os.strerror(int(said[1]))) from error
        if isinstance(error, RuntimeError):
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            write_again()
        raise


def make_folder(path: Path) -> Path:
    """Create `path` and its parents where they are missing, and return it.

    Raises:
        UserError: The folder cannot be made (permission, read-only or full disk, a file of that
            name).
    """
    with as_user_error(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def readable(path: Path | str, key: str = "") -> Iterator[None]:
    """Raise an OSError of reading `path` as a `UserError`; `key` names the option that gave it."""
    try:
        yield
    except OSError as error:
        where = f"{path}: {key}: " if key else f"{path}: "
        check = "check the path" if error.errno in PATH_ERRORS else "check its disk"
        raise UserError(f"{where}it cannot be read ({error.strerror}); {check}.") from error


def read_bytes(path: Path, key: str = "") -> bytes:
    """Read a file. Raises as `readable`."""
    with readable(path, key):
        return path.read_bytes()


def parse_json(data: bytes | str) -> Any:
    """Parse a user's JSON.

    Raises:
        ValueError: It is not JSON, or nested too deep to be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None


# Return an unused hidden name in the same folder (containers may share process ids).
def temp_sibling(path: Path, word: str) -> Path:
    return path.with_name(f".{path.name}.{word}-{os.getpid()}-{secrets.token_hex(4)}")


def clear_leftovers(folder: Path) -> None:
    """Delete the temporary folders that killed processes have left of a folder or file.

    One that a living process holds (`held_sibling`) stays, whatever its number in its container.
    """
    name = re.compile(rf"\.{re.escape(folder.name)}\.tmp-\d+-[0-9a-f]+")
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.tmp-*"):
        if not name.fullmatch(left.name):
            continue
        with suppress(OSError):  # held, already gone, or on a file system without locks
            descriptor = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)


@contextmanager
def held_sibling(folder: Path) -> Iterator[Path]:
    """Make a temporary folder beside `folder`, which no `clear_leftovers` deletes meanwhile."""
    while True:
        temporary = temp_sibling(folder, "tmp")
        temporary.mkdir(parents=True)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: nothing is cleared there either
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            # Deleted between the two lines above?
            if not temporary.is_dir():
                continue
            yield temporary
            return
        finally:
            os.close(descriptor)
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder in which one process at a time may write; without locks nothing is held.

    Raises:
        UserError: Another process holds it, on any machine that sees its locks.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(make_folder(folder) / ".lock", wait=False))
        except BlockingIOError:
            raise UserError(f"{folder}: another process writes here: wait for it.") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


@contextmanager
def exclusive(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, which is gone afterwards.

    Raises:
        BlockingIOError: It is held by another process, and not to be waited for.
        OSError: The file system has no locks (`NO_LOCKS`), or it cannot be written.
    """
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


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Fill a binary file with `write`; it gets the name `path` once it is complete and on disk.

    Raises:
        UserError: The disk is full or the folder cannot be written; what was at `path` before is
            then still there.
    """
    temporary = temp_sibling(path, "tmp")
    with as_user_error(path):
        try:
            make_folder(path.parent)
            with open(temporary, "wb") as file:
                with as_os_error(lambda: _write_on(file, MEGABYTE)):
                    write(file)
                _write_on(file, b"")
            os.replace(temporary, path)
            flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _write_on(file: IO[bytes], data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _write_more(folder: Path) -> None:
    with open(folder / ".more", "wb") as file:
        _write_on(file, MEGABYTE)


# Flush a file, or a folder's entries (so that a rename survives a power cut), to disk.
def flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` atomically. Raises as `write_atomic`."""
    write_atomic(path, lambda file: file.write(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically. Raises as `write_atomic`."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, data: Any) -> None:
    """Write `data` as indented JSON, atomically. Raises as `write_atomic`."""
    write_text(Path(path), json.dumps(data, indent=2, allow_nan=True) + "\n")


# Flush all files of a folder to disk: its name must not survive a power cut without its content.
def _flush_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        flush_folder(path)
    flush_folder(folder)


# Let who may read a folder read its files: safetensors writes them for their owner alone.
def _share_tree(folder: Path) -> None:
    readable = folder.stat().st_mode & 0o444
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | readable)


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder with `fill`; it gets the name `path` once complete, and replaces an older one.

    Raises:
        UserError: The disk is full or the parent cannot be written; an older folder of that name is
            then still there.
    """
    temporary, previous = (temp_sibling(path, word) for word in ("tmp", "old"))
    with as_user_error(path):
        try:
            make_folder(temporary)
            with as_os_error(lambda: _write_more(temporary)):
                fill(temporary)
            _share_tree(temporary)
            _flush_tree(temporary)
            if path.exists():
                os.replace(path, previous)
            os.replace(temporary, path)
            flush_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(previous, ignore_errors=True)
