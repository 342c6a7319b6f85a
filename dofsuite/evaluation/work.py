"""Work in pieces that survive a kill and are shared by processes: one file a piece, read back in order.

No number is added up across processes: every process makes its own share of the rows, and whoever finds them all
there reads them in the order of the keys. So one process and three give the same table to the last digit (with as many
threads each: sums in another order round another way), and what a killed evaluation had finished is not made again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm import tqdm

from dofsuite.atomic import make_folder, write_json
from dofsuite.diffusion import draw_integer
from dofsuite.errors import UserError

SETTINGS = "settings.json"
LOG_EVERY_S = 10.0
"""A log gets a plain line this often; a terminal has a bar."""


def place() -> tuple[int, int]:
    """Return this process's number and how many there are: (RANK, WORLD_SIZE), or SLURM's, or (0, 1).

    Raises:
        UserError: The two contradict each other.
    """
    for rank_name, size_name in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank_name in os.environ and size_name in os.environ:
            rank, processes = os.environ[rank_name], os.environ[size_name]
            if not (rank.isdigit() and processes.isdigit() and int(rank) < int(processes)):
                raise UserError(
                    f"{rank_name}: {rank!r} is no process of {processes!r} ({size_name}); set both or none."
                )
            return int(rank), int(processes)
    return 0, 1


def seed_of(key: str, seed: int = 0) -> int:
    """Return a seed in [0, 2^63) that is a function of (seed, key) alone: not of process, order or history."""
    return draw_integer(seed, 0, key)


def rows(
    folder: Path, keys: Sequence[str], make: Callable[[str], dict[str, Any]], settings: dict[str, Any]
) -> list[dict[str, Any]] | None:
    """Make this process's share of the rows, keys[rank::processes], that are not there yet, and read them all.

    Args:
        folder: Where the rows lie, one JSON file a key, and `settings.json`; nothing else belongs there.
        keys: The rows' names, each once, in the order of the answer.
        make: Makes a row of plain data (JSON) from its key, with no randomness but that of `seed_of`.
        settings: What the rows depend on, plain data; rows made with other settings are not mixed with these.

    Returns:
        All rows in the order of `keys`, as read from their files; None where other processes still owe theirs.

    Raises:
        UserError: The folder holds rows made with other settings, or cannot be written.
    """
    if len(set(keys)) < len(keys):
        raise ValueError("keys: each row needs a name of its own")
    rank, processes = place()
    make_folder(folder)
    check_settings(folder, settings)
    missing = [key for key in keys[rank::processes] if not row_file(folder, key).is_file()]
    for key in progress(missing, f"{folder.name} [{rank + 1}/{processes}]" if processes > 1 else folder.name):
        write_json(row_file(folder, key), make(key))
    if not all(row_file(folder, key).is_file() for key in keys):
        return None
    return [json.loads(row_file(folder, key).read_text()) for key in keys]


def plain_hash(settings: dict[str, Any]) -> str:
    """Return eight digits that tell one plain dictionary from another."""
    return f"{draw_integer(0, 0, json.dumps(settings, sort_keys=True)):016x}"[:8]


def row_file(folder: Path, key: str) -> Path:
    """Return a row's file; a key with a slash is one file too."""
    return folder / f"row-{quote(key, safe=' ')}.json"


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings at first use; later they must be the same.

    Raises:
        UserError: The folder was begun with other settings; the first that differs is named.
    """
    file, wanted = folder / SETTINGS, json.loads(json.dumps(settings))
    if not file.is_file():
        write_json(file, wanted)
        return
    there = json.loads(file.read_text())
    for name in sorted({*there, *wanted}):
        if there.get(name) != wanted.get(name):
            raise UserError(
                f"{file}: {name}: these rows were made with {there.get(name)!r}, not {wanted.get(name)!r}; "
                "name another folder, or delete this one to start anew."
            )


def progress(keys: Sequence[str], title: str) -> Iterator[str]:
    """Yield the keys under a bar on a terminal, or with a plain line now and then in a log."""
    if sys.stderr.isatty():
        yield from tqdm(keys, desc=title)
        return
    last = time.monotonic()
    for number, key in enumerate(keys):
        yield key
        if time.monotonic() - last > LOG_EVERY_S or number + 1 == len(keys):
            last = time.monotonic()
            print(f"{title}: {number + 1} of {len(keys)}", file=sys.stderr, flush=True)
