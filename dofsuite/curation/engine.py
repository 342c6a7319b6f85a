"""Work on numbered items: by one process or several, by a part of them, each part by one process.

An item (an input or an output shard) is written atomically and depends on nothing but its number,
so who does it, and how often, makes no difference to the result. Locks are byte ranges of one file
a stage, a byte an item: parts that overlap exclude each other, however they were cut, and a killed
process holds none. POSIX locks work on NFS and Lustre too.
"""

import errno
import fcntl
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dofsuite.errors import UserError
from dofsuite.files import as_user_error, make_folder

Work = Callable[[int], object]
# A factory, so that a worker builds what it needs once: folder -> work.
MakeWork = Callable[[Path], Work]


@contextmanager
def claimed(folder: Path, stage: str, items: range) -> Iterator[None]:
    """Hold the items of a stage; no other process can, on any machine that sees the folder.

    Raises:
        UserError: Another process holds some of them.
    """
    path = make_folder(folder / "locks") / stage
    with as_user_error(path), open(path, "a+b") as file:
        try:
            # A length of 0 would lock to the end of all numbers.
            if items:
                flags = fcntl.LOCK_EX | fcntl.LOCK_NB
                fcntl.lockf(file, flags, len(items), items.start, os.SEEK_SET)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(
                    f"{folder}: another process is at {stage} {items.start} to {items.stop - 1}, "
                    "or some of them; wait for it, or give each process a part of its own."
                ) from None
            raise UserError(f"{path}: this file system has no locks: {error.strerror}.") from error
        yield


def part_of(count: int, part: tuple[int, int]) -> range:
    """Return the items of part (i, n), i from 0.

    >>> [list(part_of(5, (i, 2))) for i in range(2)]
    [[0, 1], [2, 3, 4]]
    """
    index, parts = part
    return range(count * index // parts, count * (index + 1) // parts)


def run_items(
    make_work: MakeWork, folder: Path, items: Sequence[int], workers: int, title: str
) -> None:
    """Do items, in this process or in several.

    Raises:
        UserError: An item raised it; items that were begun are done first.
        BrokenProcessPool: A worker was killed; the same command goes on from there.
    """
    progress = tqdm(total=len(items), desc=title, disable=None)
    if workers == 1 or len(items) < 2:
        with one_thread():
            work = make_work(folder)
            for item in items:
                work(item)
                progress.update()
        progress.close()
        return

    # Processes of their own, which end with this one
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(items)), context, _begin_worker, (make_work, folder, os.getpid())
    ) as pool:
        futures = [pool.submit(_do, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
                progress.update()
        except BrokenProcessPool as error:
            raise UserError(
                f"{folder}: a worker ended before its work was done (killed, or out of memory); "
                "run the same command again, with fewer --workers if memory is short."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
            progress.close()


_worker: dict[str, Any] = {}


def _begin_worker(make_work: MakeWork, folder: Path, parent: int) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker.update(make_work=make_work, folder=folder)


def _do(item: int) -> None:
    # Here and not above, where an error would only break the pool
    if "work" not in _worker:
        _worker["work"] = _worker["make_work"](_worker["folder"])
    _worker["work"](item)


# A worker whose parent was killed would wait for work for ever.
def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: with several, sums depend on how many."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
