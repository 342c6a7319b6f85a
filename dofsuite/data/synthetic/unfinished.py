"""A set that is being written: for one process at a time, and kept when that is killed.

It grows in a hidden folder beside its final name, which the next start goes on with. The folder is
claimed by a lock, not by a process id: containers that share a cache may share those. Its name says
which machine (since its last boot) writes, for file systems whose locks other machines do not see.
"""

import errno
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dofsuite.data.manifest import sha256_of
from dofsuite.files import NO_LOCKS, as_user_error, exclusive, held_sibling, make_folder

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# A folder of another machine, or from before a boot, that was not written to for so long is left.
LEFT_AFTER_S = 24 * 3600.0


@contextmanager
def unfinished(path: Path) -> Iterator[Path | None]:
    """Yield the folder in which to write `path`, which it becomes; None if others wrote it by now.

    Another process that writes it is waited for. What was written stays in the folder when the
    process is killed or fails.

    Raises:
        UserError: It cannot be written.
    """
    with as_user_error(path), ExitStack() as stack:
        # Claimed; a file system without locks gives a folder of its own, which begins anew
        lock, folder = make_folder(path.parent) / f".{path.name}.lock", unfinished_folder(path)
        try:
            stack.enter_context(exclusive(lock, wait=False))
        except BlockingIOError:
            print(f"dofsuite: {path}: another process writes it; waiting", file=sys.stderr)
            stack.enter_context(exclusive(lock))
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            folder = stack.enter_context(held_sibling(path))
        if path.exists():
            yield None
            return
        _clear_left(path, folder)
        yield make_folder(folder)
        # The first one stays: the content is the same
        try:
            os.rename(folder, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(folder, ignore_errors=True)


def unfinished_folder(path: Path) -> Path:
    """Return where this machine writes `path`."""
    boot = BOOT_ID.read_text() if BOOT_ID.is_file() else socket.gethostname()
    return path.with_name(f".{path.name}.unfinished-{sha256_of(boot.encode())[:12]}")


def _clear_left(path: Path, own: Path) -> None:
    for folder in path.parent.glob(f".{path.name}.unfinished-*"):
        if folder != own:
            newest = max(each.stat().st_mtime for each in (folder, *folder.iterdir()))
            if time.time() - newest > LEFT_AFTER_S:
                shutil.rmtree(folder, ignore_errors=True)
