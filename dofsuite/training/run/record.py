"""A run's record: `config.yaml` (the experiment), `command.txt` and `versions.json` (each start).

A run folder holds one experiment. Two starts may differ in length, logging, and the shape of the
machine (world size, workers, sharding), on which the global sample order does not depend. The
samples of an optimizer step may be split otherwise, but their number stays (`global_batch`).
"""

import platform
import shlex
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
import yaml

from dofsuite.errors import UserError
from dofsuite.files import as_user_error, parse_json, write_json, write_text
from dofsuite.training.run.dotted_keys import flat
from dofsuite.training.run.global_batch import (
    ACCUMULATED,
    FACTORS,
    MICRO_BATCHES,
    devices_here,
    fix_hint,
    samples_per_step,
)
from dofsuite.training.run.renamed_keys import translated
from dofsuite.yaml_tree import parse_yaml

# Keys that may differ between two starts of a run.
MAY_CHANGE = (
    "trainer.max_steps",
    "trainer.logger",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.default_root_dir",  # the folder itself, which may have moved
    *FACTORS,  # their product must stay: `differing_step`
    MICRO_BATCHES,
    "trainer.strategy",
    "gpu",
    "nonfinite",
    "trainer.val_check_interval",  # counted in batches
    "data.init_args.num_workers",
    "data.init_args.remote",
    "data.init_args.skip_damaged",
    # Memory and speed: the same gradients up to rounding.
    "model.init_args.split_backward",
    "model.init_args.gradient_checkpointing",
    "model.init_args.acceleration",
)


def differing_key(
    stored: dict[str, Any], now: dict[str, Any], given: dict[str, Any]
) -> tuple[str, Any, Any] | None:
    """Return the first key in which an experiment differs from its folder's, with both values.

    Args:
        stored: The resolved experiment of the folder's `config.yaml`.
        now: The resolved experiment of this start.
        given: This start's values that are not defaults. A key that is missing in `stored` and at
            its default now came with a newer version of the code, and is no difference.
    """
    before, after = flat(stored), flat(now)
    may_differ = flat(given).keys() | before.keys()
    # Classes first: their parameters differ too.
    keys = sorted(
        before.keys() | after.keys(), key=lambda key: (not key.endswith("class_path"), key)
    )
    for key in keys:
        may_change = any(f"{key}.".startswith(f"{name}.") for name in MAY_CHANGE)
        may_change |= key.endswith(".trust_remote_code")
        if before.get(key) != after.get(key) and key in may_differ and not may_change:
            return key, before.get(key), after.get(key)
    return None


def differing_step(
    stored: dict[str, Any], now: dict[str, Any], folder: Path
) -> tuple[str, str] | None:
    """Return a key that changes the samples of an optimizer step, and a reason with the fix."""
    before, after = flat(stored), flat(now)
    starts = _earlier_starts(folder / "versions.json")
    wanted = samples_per_step(before, starts[-1].get("num_devices", 1) if starts else 1)
    samples = samples_per_step(after, devices_here())
    if samples == wanted:
        return None
    key = next((key for key in FACTORS if before.get(key) != after.get(key)), ACCUMULATED)
    return key, (
        f"{after.get(key)!r}, but the run in {folder} was begun with {wanted} samples a step and "
        f"this makes {samples}; {fix_hint(after, wanted, samples)}, or name another folder "
        "with --trainer.default_root_dir"
    )


def stored_config(folder: Path) -> dict[str, Any] | None:
    """Return the resolved experiment of a run folder, or None for a folder without one.

    Raises:
        UserError: `config.yaml` is not a mapping in YAML.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        return None
    try:
        config = parse_yaml(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        config = None
    if not isinstance(config, dict):
        raise UserError(
            f"{path}: not the record of a run; remove the folder or name another with "
            "--trainer.default_root_dir."
        )
    return translated(config)


def write_record(
    folder: Path, config: dict[str, Any], argv: Sequence[str], say: Any = print
) -> None:
    """Write `config.yaml`, and append this start to `command.txt` and `versions.json`.

    Another number of CPU threads than at the last start is reported: the last bits of a CPU run
    depend on it.
    """
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    with as_user_error(folder / "command.txt"), open(folder / "command.txt", "a") as file:
        file.write(f"{started} {shlex.join(['python', '-m', 'dofsuite.fit', *argv])}\n")
    starts, versions = _earlier_starts(folder / "versions.json"), versions_now()
    now = versions["torch_threads"]
    if starts and (before := starts[-1].get("torch_threads")) != now:
        say(
            f"note: this start uses {now} CPU threads and the last one used {before}: equal only "
            "to rounding."
        )
    write_json(folder / "versions.json", [*starts, {"started": started, **versions}])


def _earlier_starts(path: Path) -> list[dict[str, Any]]:
    try:
        starts = parse_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return []
    return starts if isinstance(starts, list) else []


def versions_now() -> dict[str, Any]:
    """Return what this process runs on: Python, packages, the code's commit, device, threads."""
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
    """Return this code's git commit (`+changes` if files differ), or None outside a checkout."""
    package = str(Path(__file__).parents[2])
    try:
        commit = _git(package, "rev-parse", "HEAD")
        changes = _git(package, "status", "--porcelain", "--untracked-files=no", "--", package)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(folder: str, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, *command], capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()


def finished_at(folder: Path) -> dict[str, Any] | None:
    """Return a finished run's end (`step`, and the limits that ended it), or None before it."""
    try:
        end = parse_json((folder / "finished.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return end if isinstance(end, dict) else None
