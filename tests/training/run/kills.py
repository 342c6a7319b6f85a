"""`fit` in a process that kills itself at its N-th call that changes what a disk keeps.

The calls are those of Python: `os.fsync`, `replace`, `rename`, `unlink` and `rmdir` of anything in
the run folder. Processes are forked from a server that has imported all that a run imports.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any

CALLS = ("fsync", "replace", "rename", "unlink", "remove", "rmdir")
LOG = "calls.txt"
SAID = "said.txt"
IMPORTED = ("dofsuite.experiment.run", "dofsuite.refocus.module", "dofsuite.data.module", __name__)


def start(
    folder: Path,
    words: list[str],
    kill_at: tuple[int, str] | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> BaseProcess:
    """Begin `python -m dofsuite.fit` with these words in `folder`.

    Args:
        folder: Where the experiment file lies; it gets `calls.txt` (a line each: name and path)
            and `said.txt`.
        words: Of the command line.
        kill_at: The number of the call, from 0, and whether to kill `before` or `after` it.
        environment: More variables.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(IMPORTED))
    process = server.Process(target=_fit, args=(folder, words, kill_at, dict(environment)))
    process.start()
    return process


def run(
    folder: Path,
    words: list[str],
    kill_at: tuple[int, str] | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run it to its end, as `start` does, and return the exit code (negative: the signal)."""
    process = start(folder, words, kill_at, environment)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def ended_after(folder: Path, words: list[str], calls: int, seconds: float, number: int) -> int:
    """Run it, signalled some time after it has made so many calls, and return the exit code."""
    process = start(folder, words)
    while process.exitcode is None and len(calls_of(folder)) < calls:
        process.join(0.005)
    process.join(seconds)
    if process.exitcode is None:
        os.kill(process.pid or 0, number)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def calls_of(folder: Path) -> list[tuple[str, str]]:
    """Return the calls of all starts: name and path within the folder."""
    log = folder / LOG
    lines = log.read_text().splitlines() if log.exists() else []
    return [(name, path) for name, _, path in (line.partition(" ") for line in lines)]


def _fit(
    folder: Path, words: list[str], kill_at: tuple[int, str] | None, environment: dict[str, str]
) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    said = os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    _count(kill_at)
    sys.argv = ["fit", *words, "--allow-import", "tests"]
    runpy.run_module("dofsuite.fit", run_name="__main__", alter_sys=True)


def _count(kill_at: tuple[int, str] | None) -> None:
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    root, count = str(Path.cwd() / "runs"), iter(range(1 << 30))

    def counted(call: Callable, name: str, first: Any, *rest: Any, **options: Any) -> Any:
        path = _path(first, options.get("dir_fd"))
        if not path.startswith(root):
            return call(first, *rest, **options)
        number = next(count)
        os.write(log, f"{name} {os.path.relpath(path)}\n".encode())
        if kill_at == (number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return call(first, *rest, **options)
        finally:
            if kill_at == (number, "after"):
                os.kill(os.getpid(), signal.SIGKILL)

    for name in CALLS:
        setattr(os, name, functools.partial(counted, getattr(os, name), name))


def _path(file: Any, folder: int | None) -> str:
    if isinstance(file, int):
        return os.readlink(f"/proc/self/fd/{file}")
    above = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    return os.path.join(above, os.fspath(file))
