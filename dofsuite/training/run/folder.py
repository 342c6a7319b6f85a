"""A run's folder is its own: claimed by a marker, locked while it is written, swept at its start.

A run writes, replaces and deletes in its folder, so that a folder with anything else in it is none.
"""

import fcntl
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dofsuite.errors import UserError
from dofsuite.files import NO_LOCKS, as_user_error, make_folder, parse_json, write_text

MARKER = ".dofsuite-run"
LOCK_NAME = ".lock"
REFUSED_NAME = ".refused"
MARKER_TEXT = "A run of dofsuite: `python -m dofsuite.fit` writes and deletes in this folder.\n"
# What only a start writes, before there is anything that would have to be kept.
OF_A_START = {MARKER, LOCK_NAME, REFUSED_NAME}
# Temporary names of `files.temp_sibling`, and of a sharded checkpoint.
LEFTOVER = re.compile(r"\.(.+)\.((tmp|old)-\d+-[0-9a-f]{8}|partial)")
# How long a lock is waited for whose holder has just died: its children may hold it on.
DEAD_HOLDER_S = 10.0
FIRST_RANK_S = 1800.0

# Open locks of this process: a fork closes its copies, or it would hold them on.
_held: list[int] = []


def _close_in_fork() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_fork)


def is_first_rank() -> bool:
    """Whether this process is rank 0, by the launcher's environment (there is no trainer yet)."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0) == 0


def start_of_ranks() -> str:
    """Return what names this start of several processes; empty where no launcher says it."""
    names: tuple[str, ...] = ()
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")
    return " ".join(f"{name}={os.environ.get(name, '')}" for name in names)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run folder in all ranks: the first one locks it, the others wait until it has.

    Raises:
        UserError: As `locked`, in every rank.
    """
    if is_first_rank():
        with locked(folder):
            yield
    else:
        wait_for_first_rank(folder)
        yield


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Claim and lock the run folder: a requeued task and a stuck old one never write together.

    Temporary files that killed processes have left in it are removed.

    Raises:
        UserError: It holds something else than a run, another process holds the lock, or it cannot
            be written.
    """
    check_is_run(folder)
    path = make_folder(folder) / LOCK_NAME
    descriptors: list[int] = []
    try:
        # The folder itself is locked too: its lock file may have been removed.
        with as_user_error(path):
            descriptors.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
            descriptors.append(os.open(folder, os.O_RDONLY))
        _held.extend(descriptors)
        for descriptor in descriptors:
            _lock(descriptor, folder)
        # A start that failed may have removed the folder after it was opened here.
        if not (folder.is_dir() and os.path.samestat(os.fstat(descriptors[1]), folder.stat())):
            raise UserError(f"{folder}: another process has just removed this folder; start again.")
        try:
            # What a killed start has left goes first: it may be what fills the disk.
            sweep(folder)
            (folder / REFUSED_NAME).unlink(missing_ok=True)
            # Claimed.
            said = f"process {os.getpid()} on {socket.gethostname()}\n{start_of_ranks()}"
            with as_user_error(path):
                os.truncate(descriptors[0], 0)
                os.pwrite(descriptors[0], said.encode(), 0)
            if not (folder / MARKER).is_file():
                write_text(folder / MARKER, MARKER_TEXT)
            yield
        finally:
            _remove_if_unused(folder)
    finally:
        for descriptor in descriptors:
            if descriptor in _held:
                _held.remove(descriptor)
                os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    """Lock a file or folder; a holder that has just died is waited for."""
    until = time.monotonic() + DEAD_HOLDER_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            # Held: by a live process, or by what one that has just died has left.
            holder = _holder(folder)
            if _is_gone(holder) and time.monotonic() < until:
                time.sleep(0.2)
                continue
            with suppress(UserError):
                write_text(folder / REFUSED_NAME, start_of_ranks())
            raise UserError(
                f"{folder}: another process is running this experiment here ({holder})."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                print(f"{folder}: this file system locks no files: start no second process here.")
            return


def _holder(folder: Path) -> str:
    try:
        return (folder / LOCK_NAME).read_text().splitlines()[0]
    except (OSError, IndexError):
        return "its lock file is gone"


# Whether a holder was a process of this machine that has ended.
def _is_gone(holder: str) -> bool:
    process = re.fullmatch(r"process (\d+) on (.*)", holder)
    if process is None or process[2] != socket.gethostname():
        return False
    return not Path("/proc", process[1]).exists() if Path("/proc/self").exists() else False


def wait_for_first_rank(folder: Path, patience_s: float = FIRST_RANK_S) -> None:
    """Wait until the first rank of this start holds the folder; it may have been refused.

    Raises:
        UserError: It was, or it has not come.
    """
    check_is_run(folder)
    start = start_of_ranks()
    until = time.monotonic() + patience_s
    while start and start not in _lines(folder / LOCK_NAME):
        if start in _lines(folder / REFUSED_NAME):
            raise UserError(f"{folder}: another process is running this experiment here.")
        if time.monotonic() > until:
            raise UserError(f"{folder}: the first rank of this start has not taken the run folder.")
        time.sleep(0.5)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def check_is_run(folder: Path) -> None:
    """Check that a folder is a run's, of an older version too, or has nothing in it.

    Raises:
        UserError: It is somebody's.
    """
    if not folder.is_dir() or is_run(folder):
        return
    others = sorted(name for name in os.listdir(folder) if not _is_of_a_start(name))
    if not (text := "".join(_lines(folder / LOCK_NAME))).startswith("process ") and text:
        others = [LOCK_NAME]
    if others:
        raise UserError(
            f"{folder}: holds {others[0]}, and is no run's folder, in which files would be "
            "replaced and deleted; name a new one with --trainer.default_root_dir."
        )


# Whether a file is what a start writes first, or what one that was killed then has left of it.
def _is_of_a_start(name: str) -> bool:
    left = LEFTOVER.fullmatch(name)
    return (left[1] if left else name) in OF_A_START


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: by the marker, or by what versions without it have written."""
    if (folder / MARKER).is_file():
        return True
    try:
        starts = parse_json((folder / "versions.json").read_text())
        is_recorded = isinstance(starts, list) and all("started" in start for start in starts)
    except (OSError, ValueError, TypeError):
        is_recorded = False
    commands = _lines(folder / "command.txt")
    return is_recorded or any(" python -m dofsuite.fit" in line for line in commands)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of killed starts; nobody else writes here now."""
    paths = [*folder.glob("*"), *folder.glob("*/*")]
    for left in [path for path in paths if LEFTOVER.fullmatch(path.name)]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


# A start that failed its checks leaves nothing behind.
def _remove_if_unused(folder: Path) -> None:
    with suppress(OSError):
        if set(os.listdir(folder)) <= OF_A_START:
            for name in OF_A_START:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
