"""Work in pieces that survive a kill and are shared by processes: one file a piece, read back in order.

No number is added up across processes: every process makes its own share of the rows, and whoever
finds them all there reads them in the order of the keys. So one process and three give the same
table to the last digit (with as many
threads each: sums in another order round another way), and what a killed evaluation had finished is
    not made again.

The tasks of a SLURM array share too. Each makes its own share first and then what is still missing:
tasks begin at other times, and an array may as well have a command for each task (a run each),
which no other will help with.
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

import torch
from tqdm import tqdm

from dofsuite.diffusion import draw_integer
from dofsuite.errors import UserError
from dofsuite.files import make_folder, write_json

SETTINGS = "settings.json"
LOG_EVERY_S = 10.0
"""A log gets a plain line this often; a terminal has a bar."""
SHOWN_LETTERS = 80
"""Of a setting, in a sentence."""
ABSENT = object()
"""Stands for a setting that is not there."""


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's number and how many there are: (RANK, WORLD_SIZE), or SLURM's, or (0, 1).

    The processes of all tasks of a SLURM array count as one another's.

    Raises:
        UserError: The two contradict each other, or the array has gaps.
    """
    if told := env_rank("RANK", "WORLD_SIZE"):
        return told
    rank, processes = env_rank("SLURM_PROCID", "SLURM_NTASKS") or (0, 1)
    task, tasks = array_index_and_size()
    return task * processes + rank, tasks * processes


def env_rank(rank_name: str, size_name: str) -> tuple[int, int] | None:
    """Return the two variables as numbers; None where one of them is not set."""
    if rank_name not in os.environ or size_name not in os.environ:
        return None
    rank, processes = os.environ[rank_name], os.environ[size_name]
    if not (rank.isdigit() and processes.isdigit() and int(rank) < int(processes)):
        raise UserError(
            f"{rank_name}: {rank!r} is no process of {processes!r} ({size_name}); set both or none."
        )
    return int(rank), int(processes)


def array_index_and_size() -> tuple[int, int]:
    """Return this SLURM array task's place among the array's and how many there are; (0, 1) without an array.

    Raises:
        UserError: The array's numbers are not evenly spaced, so that a task cannot tell how many
            come before it.
    """
    names = (
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_MAX",
        "SLURM_ARRAY_TASK_COUNT",
    )
    values = [os.environ.get(name, "") for name in names]
    if not all(value.isdigit() for value in values) or values[3] in ("0", "1"):
        return 0, 1
    number, first, last, count = map(int, values)
    step = max(1, (last - first) // (count - 1))
    if first + step * (count - 1) != last or (number - first) % step:
        raise UserError(
            f"SLURM_ARRAY_TASK_ID: {number} is of {count} numbers from {first} to {last} with gaps, which cannot share "
            "work; submit an array without gaps, or set RANK and WORLD_SIZE (0 and 1: this task does all)."
        )
    return (number - first) // step, count


def default_device() -> torch.device:
    """Return this process's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = (
        os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or rank_and_world_size()[0]
    )
    return torch.device("cuda", int(local) % torch.cuda.device_count())


def seed_of(key: str, seed: int = 0) -> int:
    """Return a seed in [0, 2^63) that is a function of (seed, key) alone: not of process, order or history."""
    return draw_integer(seed, 0, key)


def compute_rows(
    folder: Path,
    keys: Sequence[str],
    make: Callable[[str], dict[str, Any]],
    settings: dict[str, Any],
) -> list[dict[str, Any]] | None:
    """Make the rows that this process owes (`pending`), and read them all.

    Args:
        folder: Where the rows lie, one JSON file a key, and `settings.json`; nothing else belongs
            there.
        keys: The rows' names, each once, in the order of the answer.
        make: Makes a row of plain data (JSON) from its key, with no randomness but that of
            `seed_of`.
        settings: What the rows depend on, plain data; rows made with other settings are not mixed
            with these.

    Returns:
        All rows in the order of `keys`, as read from their files; None where other processes still
        owe theirs.

    Raises:
        UserError: The folder holds rows made with other settings, or cannot be written.
    """
    if len(set(keys)) < len(keys):
        raise ValueError("keys: each row needs a name of its own")
    rank, processes = rank_and_world_size()
    make_folder(folder)
    check_settings(folder, settings)
    title = f"{folder.name} [{rank + 1}/{processes}]" if processes > 1 else folder.name
    for key in progress(pending(folder, keys), title):
        if not row_file(
            folder, key
        ).is_file():  # another task of the array may have made it meanwhile
            write_json(row_file(folder, key), make(key))
    if not all(row_file(folder, key).is_file() for key in keys):
        return None
    return [json.loads(row_file(folder, key).read_text()) for key in keys]


def pending(folder: Path, keys: Sequence[str]) -> list[str]:
    """Return the keys of the rows that are missing and this process's to make, in that order.

    They are its share, keys[rank::processes]; in an array then all others, the last first, because
    whoever owes those began at the other end.
    """
    rank, processes = rank_and_world_size()
    mine = list(keys[rank::processes])
    if env_rank("RANK", "WORLD_SIZE") is None and array_index_and_size()[1] > 1:
        mine += [
            key for number, key in reversed(list(enumerate(keys))) if number % processes != rank
        ]
    return [key for key in mine if not row_file(folder, key).is_file()]


def config_hash(settings: dict[str, Any]) -> str:
    """Return eight digits that tell one plain dictionary from another."""
    return f"{draw_integer(0, 0, json.dumps(settings, sort_keys=True)):016x}"[:8]


def row_file(folder: Path, key: str) -> Path:
    """Return a row's file; a key with a slash is one file too."""
    return folder / f"row-{quote(key, safe=' ')}.json"


def check_settings(folder: Path, settings: dict[str, Any], begin: bool = True) -> None:
    """Write the settings at first use (unless it is not to `begin`); later they must be the same.

    Raises:
        UserError: The folder was begun with other settings; the first that differs is named.
    """
    file, wanted = folder / SETTINGS, json.loads(json.dumps(settings))
    if not file.is_file():
        if begin:
            write_json(file, wanted)
        return
    if (there := json.loads(file.read_text())) != wanted:
        name, old, new = first_difference(there, wanted)
        raise UserError(
            f"{file}: {name}: these rows were made with {in_short(old)}, not {in_short(new)}; "
            "name another folder, or delete this one to start anew."
        )


def first_difference(there: Any, wanted: Any, name: str = "") -> tuple[str, Any, Any]:
    """Return the key of the first value in which two plain values differ, `a.b.0` for one inside others, and both."""
    if isinstance(there, list) and isinstance(wanted, list):
        there, wanted = (dict(enumerate(values)) for values in (there, wanted))
    if not (isinstance(there, dict) and isinstance(wanted, dict)):
        return name, there, wanted
    key = next(
        key
        for key in sorted({*there, *wanted})
        if there.get(key, ABSENT) != wanted.get(key, ABSENT)
    )
    return first_difference(
        there.get(key, ABSENT), wanted.get(key, ABSENT), f"{name}.{key}".lstrip(".")
    )


def in_short(value: Any) -> str:
    """Return a setting for a sentence."""
    text = "nothing" if value is ABSENT else repr(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[: SHOWN_LETTERS - 4]} ..."


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
