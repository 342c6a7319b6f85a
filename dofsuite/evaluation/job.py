"""A resumable job of rows, shared by processes: one JSON file a row, read back in order.

Rows are computed by any process, cached as one file each, and aggregated in key order by whichever
process finds them complete. So results do not depend on the number of processes (to the last digit
with as many threads each: sums in another order round differently), and a killed job resumes.

The tasks of a SLURM array share a job too. Each computes its own share first and then what is still
missing: tasks start at different times, and an array may also run a command of its own in each
task, which no other task shares.
"""

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
# Seconds between progress lines in a log; a terminal has a bar.
LOG_EVERY_S = 10.0
# Of a setting in an error message.
MAX_CHARACTERS = 80
# Stands for a setting that is not there.
ABSENT = object()


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the world size: RANK and WORLD_SIZE, or SLURM's, or (0, 1).

    The processes of all tasks of a SLURM array form one world.

    Raises:
        UserError: The two variables contradict each other, or the array has gaps.
    """
    if given := env_rank("RANK", "WORLD_SIZE"):
        return given
    rank, world_size = env_rank("SLURM_PROCID", "SLURM_NTASKS") or (0, 1)
    task, tasks = array_index_and_size()
    return task * world_size + rank, tasks * world_size


def env_rank(rank_name: str, size_name: str) -> tuple[int, int] | None:
    if rank_name not in os.environ or size_name not in os.environ:
        return None
    rank, size = os.environ[rank_name], os.environ[size_name]
    if not (rank.isdigit() and size.isdigit() and int(rank) < int(size)):
        raise UserError(
            f"{rank_name}: {rank!r} is no process of {size!r} ({size_name}); set both or none."
        )
    return int(rank), int(size)


def array_index_and_size() -> tuple[int, int]:
    names = ("ID", "MIN", "MAX", "COUNT")
    task = {name: os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in names}
    if not all(text.isdigit() for text in task.values()) or int(task["COUNT"]) < 2:
        return 0, 1

    # Array numbers may start anywhere and have a stride, but no gaps
    first, last = int(task["MIN"]), int(task["MAX"])
    offset, count = int(task["ID"]) - first, int(task["COUNT"])
    stride = max(1, (last - first) // (count - 1))
    if first + stride * (count - 1) != last or offset % stride:
        raise UserError(
            f"SLURM_ARRAY_TASK_ID: {task['ID']} is of {count} numbers from {first} to {last} with "
            "gaps, which cannot share work; submit an array without gaps, or set RANK and "
            "WORLD_SIZE (0 and 1: this task does all)."
        )
    return offset // stride, count


def default_device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID")
    index = int(local) if local else rank_and_world_size()[0]
    return torch.device("cuda", index % torch.cuda.device_count())


def seed_of(key: str, seed: int = 0) -> int:
    """Return a seed in [0, 2^63) that depends on (seed, key) alone: not on rank or order."""
    return draw_integer(seed, 0, key)


def compute_rows(
    folder: Path,
    keys: Sequence[str],
    compute: Callable[[str], dict[str, Any]],
    settings: dict[str, Any],
) -> list[dict[str, Any]] | None:
    """Compute this process's share of the rows that are missing, and read all rows.

    Args:
        folder: Holds one JSON file a key, and `settings.json`; nothing else belongs there.
        keys: The rows' unique names, in the order of the result.
        compute: Computes a row of plain data (JSON) from its key, with no randomness but that of
            `seed_of`.
        settings: What the rows depend on, plain data; rows of other settings are not mixed with
            these.

    Returns:
        All rows in the order of `keys`, as read from their files; None while other processes have
        not finished theirs.

    Raises:
        UserError: The folder holds rows of other settings, or cannot be written.
    """
    if len(set(keys)) < len(keys):
        raise ValueError("keys: each row needs a name of its own")
    rank, world_size = rank_and_world_size()
    make_folder(folder)
    check_settings(folder, settings)

    # Compute; another task of the array may have written a row in the meantime
    title = f"{folder.name} [{rank + 1}/{world_size}]" if world_size > 1 else folder.name
    for key in progress(pending(folder, keys), title):
        if not row_file(folder, key).is_file():
            write_json(row_file(folder, key), compute(key))

    # Aggregate in key order, once all rows are there
    if not all(row_file(folder, key).is_file() for key in keys):
        return None
    return [json.loads(row_file(folder, key).read_text()) for key in keys]


def pending(folder: Path, keys: Sequence[str]) -> list[str]:
    """Return the keys of the missing rows that this process computes, in that order.

    They are its share, keys[rank::world_size]; in an array then all others, the last first, because
    the processes to which those belong start from the other end.
    """
    rank, world_size = rank_and_world_size()
    own = list(keys[rank::world_size])
    if env_rank("RANK", "WORLD_SIZE") is None and array_index_and_size()[1] > 1:
        others = [key for index, key in enumerate(keys) if index % world_size != rank]
        own += reversed(others)
    return [key for key in own if not row_file(folder, key).is_file()]


def row_file(folder: Path, key: str) -> Path:
    return folder / f"row-{quote(key, safe=' ')}.json"


def check_settings(folder: Path, settings: dict[str, Any], write: bool = True) -> None:
    """Check that a folder has these settings; where it has none yet, write them (`write`).

    Raises:
        UserError: The folder has other settings; the first that differs is named.
    """
    file, expected = folder / SETTINGS, json.loads(json.dumps(settings))
    if not file.is_file():
        if write:
            write_json(file, expected)
        return
    if (stored := json.loads(file.read_text())) != expected:
        name, old, new = first_difference(stored, expected)
        raise UserError(
            f"{file}: {name}: these rows were computed with {shorten(old)}, not {shorten(new)}; "
            "name another folder, or delete this one to start anew."
        )


def first_difference(old: Any, new: Any, name: str = "") -> tuple[str, Any, Any]:
    # The path (`a.b.0`) of the first value in which plain data differ, and both values
    if isinstance(old, list) and isinstance(new, list):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return name, old, new
    for key in sorted({*old, *new}):
        values = old.get(key, ABSENT), new.get(key, ABSENT)
        if values[0] != values[1]:
            return first_difference(*values, f"{name}.{key}".lstrip("."))
    return name, old, new


def shorten(value: Any) -> str:
    text = "nothing" if value is ABSENT else repr(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 4]} ..."


def progress(keys: Sequence[str], title: str) -> Iterator[str]:
    if sys.stderr.isatty():
        yield from tqdm(keys, desc=title)
        return
    last = time.monotonic()
    for number, key in enumerate(keys):
        yield key
        if time.monotonic() - last > LOG_EVERY_S or number + 1 == len(keys):
            last = time.monotonic()
            print(f"{title}: {number + 1} of {len(keys)}", file=sys.stderr, flush=True)
