"""A run's record: what it is (`config.yaml`), how it was started (`command.txt`), with what (`versions.json`).

A run folder holds one experiment. What may differ between two starts is how long it runs, what it
logs, and the shape of the machine (ranks, workers, how ranks share the weights), which the global
sample order does not depend on. How a step's samples are dealt out may differ with it, as long as
their number stays (`step_size`).
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
import yaml

from dofsuite.errors import UserError
from dofsuite.files import as_user_error, make_folder, write_json, write_text
from dofsuite.training.run.global_batch import (
    ACCUMULATED,
    FACTORS,
    MICRO_BATCHES,
    devices_here,
    mend,
    samples_per_step,
)

MAY_CHANGE = (
    "trainer.max_steps",
    "trainer.logger",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.default_root_dir",  # the folder itself, which may be spelled otherwise or have moved
    *FACTORS,  # … whose product stays: `differing_step`
    MICRO_BATCHES,
    "trainer.strategy",
    "trainer.val_check_interval",  # counted in batches
    "data.init_args.num_workers",
)
LOCK_NAME = ".lock"


def is_first_rank() -> bool:
    """Whether this process is the one that writes, as the launcher's environment tells before there is a trainer."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0) == 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, so that a requeued task and a stuck old one never write together.

    Raises:
        UserError: Another process holds it, or the folder cannot be written.
    """
    path = make_folder(folder) / LOCK_NAME
    with as_user_error(path):
        file = open(path, "a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder}: another process is running this experiment here ({file.read()})."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            # A start that was refused leaves nothing behind.
            with suppress(OSError):
                if os.listdir(folder) == [LOCK_NAME]:
                    path.unlink()
                    folder.rmdir()


def differing_key(
    stored: dict[str, Any], now: dict[str, Any], given: dict[str, Any]
) -> tuple[str, Any, Any] | None:
    """The first key in which an experiment differs from the one that its folder holds, with both values.

    Args:
        stored: The resolved experiment of the folder's `config.yaml`.
        now: The resolved experiment of this start.
        given: This start's values that are not defaults. A key that the stored experiment does not
            know at all, at its default now, came with a newer version of the code and is no
            difference.
    """
    before, after, chosen = _flat(stored), _flat(now), _flat(given)
    for key in sorted(
        before.keys() | after.keys(), key=lambda key: (not key.endswith("class_path"), key)
    ):
        if any(f"{key}.".startswith(f"{name}.") for name in MAY_CHANGE) or before.get(
            key
        ) == after.get(key):
            continue
        if key not in before and key not in chosen:
            continue
        return key, before.get(key), after.get(key)
    return None


def differing_step(
    stored: dict[str, Any], now: dict[str, Any], folder: Path
) -> tuple[str, str] | None:
    """The key by which the samples of an optimiser step differ from the folder's run, and a reason with the mend."""
    before, after = _flat(stored), _flat(now)
    starts = _earlier_starts(folder / "versions.json")
    was = samples_per_step(before, starts[-1].get("num_devices", 1) if starts else 1)
    samples = samples_per_step(after, devices_here())
    if was == samples:
        return None
    key = next((key for key in FACTORS if before.get(key) != after.get(key)), ACCUMULATED)
    return key, (
        f"{after.get(key)!r}, but the run in {folder} was begun with {was} samples a step and this makes {samples}; "
        f"{mend(after, was, samples)}, or name another folder with --trainer.default_root_dir"
    )


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {path: node}
    return {
        key: value
        for name, child in node.items()
        for key, value in _flat(child, f"{path}.{name}".strip(".")).items()
    }


def stored_config(folder: Path) -> dict[str, Any] | None:
    """The resolved experiment that the folder holds, or None for a folder without one.

    Raises:
        UserError: `config.yaml` is not a mapping in YAML.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        return None
    try:
        config = yaml.safe_load(path.read_text())
    except yaml.YAMLError:
        config = None
    if not isinstance(config, dict):
        raise UserError(
            f"{path}: not the record of a run; remove the folder or name another with --trainer.default_root_dir."
        )
    return config


def write_record(
    folder: Path, config: dict[str, Any], argv: Sequence[str], say: Any = print
) -> None:
    """Write `config.yaml`, and add this start to `command.txt` and `versions.json`.

    Says so where the number of CPU threads differs from the last start's, on which the last bits of
    a CPU run depend.
    """
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    with as_user_error(folder / "command.txt"), open(folder / "command.txt", "a") as file:
        file.write(f"{started} {shlex.join(['python', '-m', 'dofsuite.fit', *argv])}\n")
    starts = _earlier_starts(folder / "versions.json")
    versions = versions_now()
    if starts and starts[-1].get("torch_threads") != versions["torch_threads"]:
        before, now = starts[-1].get("torch_threads"), versions["torch_threads"]
        say(
            f"note: this start uses {now} CPU threads and the last one used {before}: equal only to rounding."
        )
    write_json(folder / "versions.json", [*starts, {"started": started, **versions}])


def _earlier_starts(path: Path) -> list[dict[str, Any]]:
    try:
        starts = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return starts if isinstance(starts, list) else []


def versions_now() -> dict[str, Any]:
    """What this process runs on: Python, packages, the code's commit, device and thread count."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(0)
        if cuda
        else platform.processor() or platform.machine(),
        "num_devices": torch.cuda.device_count() if cuda else 1,
        "torch_threads": torch.get_num_threads(),
        "commit": code_commit(),
        "packages": dict(
            sorted({(found.name or "").lower(): found.version for found in distributions()}.items())
        ),
    }


def code_commit() -> str | None:
    """The git commit of this code (with `+changes` where files differ from it), or None outside a checkout."""
    here = Path(__file__).parents[2]
    git = ["git", "-C", str(here)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", str(here)],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def finished_at(folder: Path) -> dict[str, Any] | None:
    """What the folder says about its end (`step`, and the limits that it was reached under), or None before it."""
    try:
        end = json.loads((folder / "finished.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return end if isinstance(end, dict) else None
