"""The runs of sweeps: what they differ in, and which differ in the seed alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dofsuite.errors import UserError
from dofsuite.training.run.dotted_keys import flat
from dofsuite.training.run.record import finished_at, stored_config

# Keys about hardware and logging, ignored when comparing runs.
IGNORED_KEYS = (
    "trainer.logger",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.num_nodes",
    "data.init_args.num_workers",
)
# Runs that differ in more settings are not one sweep's; they are named by their folders.
MAX_KEYS_IN_NAME = 8


class Run(NamedTuple):
    folder: Path
    # Its resolved experiment: full key to plain value, without `IGNORED_KEYS` and seeds.
    settings: dict[str, Any]
    seeds: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def shown(self, key: str) -> str:
        # As a row's name shows it; a class by its own name, a key of other runs as "absent"
        value = self.settings.get(key, "absent")
        if value is None or isinstance(value, bool):
            return json.dumps(value)
        parts = str(value).split(".")
        is_class = isinstance(value, str) and all(part.isidentifier() for part in parts)
        return parts[-1] if is_class else str(value)


# Runs of a sweep that differ in the seed alone.
class Group(NamedTuple):
    name: str
    runs: tuple[Run, ...]


def read_runs(paths: Sequence[Path], with_unfinished: bool = False) -> tuple[list[Run], list[str]]:
    """Read run folders; files among the paths (a report, a log) are skipped.

    Returns:
        The finished runs in order; and which other paths are none, with why.

    Raises:
        UserError: A path does not exist, or no path is a finished run.
    """
    runs, left_out = [], []
    for path in sorted(set(paths), key=in_order):
        if not path.exists():
            raise UserError(
                f"{path}: there is no such run; name run folders, such as runs/ablation_depth/*."
            )
        if not path.is_dir():
            continue
        if (config := stored_config(path)) is None:
            left_out.append(f"{path}: no run (it has no config.yaml)")
        elif finished_at(path) is None and not with_unfinished:
            left_out.append(f"{path}: not finished")
        else:
            runs.append(run_of(path, config))

    # At least one
    if not runs:
        reason = left_out[0] if left_out else f"{paths[0]}: no folder"
        raise UserError(
            f"table: none of the {len(paths)} paths is a finished run, such as {reason}."
        )
    return runs, left_out


def in_order(path: Path) -> tuple[str, int, str]:
    # By sweep, then by number, so that run 10 comes after run 9
    number = int(path.name) if path.name.isdecimal() else -1
    return path.parent.as_posix(), number, path.name


def run_of(folder: Path, config: dict[str, Any]) -> Run:
    # Its seeds, separate from the other settings
    values = {key: value for key, value in flat(config).items() if key not in IGNORED_KEYS}
    seeds = {key for key in values if key.split(".")[-1] in ("seed", "seed_everything")}
    settings = {key: value for key, value in values.items() if key not in seeds}
    return Run(folder, settings, {key: values[key] for key in values if key in seeds})


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group each sweep's runs that differ in the seed alone, in order, named by their differences.

    Where the runs of a sweep differ in nothing, or in more than `MAX_KEYS_IN_NAME` settings, a
    group is named by its runs' folders. With several sweeps every name starts with the sweep's.
    """
    sweeps: dict[Path, list[Run]] = {}
    for run in runs:
        sweeps.setdefault(run.folder.resolve().parent, []).append(run)

    groups = []
    for folder, sweep in sweeps.items():
        # Runs with the same values of all keys in which the sweep's runs differ
        keys = differing_keys(sweep)
        short = short_keys(keys)
        by_values: dict[str, list[Run]] = {}
        for run in sweep:
            name = ", ".join(f"{short[key]} {run.shown(key)}" for key in keys)
            by_values.setdefault(name, []).append(run)
        for name, alike in by_values.items():
            if not 0 < len(keys) <= MAX_KEYS_IN_NAME:
                name = ", ".join(run.name for run in alike)
            prefix = f"{folder.name}: " if len(sweeps) > 1 else ""
            groups.append(Group(prefix + name, tuple(alike)))
    return groups


def differing_keys(runs: Sequence[Run]) -> list[str]:
    # The keys in which runs differ, without arguments that only some runs' classes have
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    differing = [key for key in keys if len({run.shown(key) for run in runs}) > 1]
    classes = [key for key in differing if key.endswith(".class_path")]
    arguments = tuple(f"{key.removesuffix('class_path')}init_args." for key in classes)
    return [
        key
        for key in differing
        if key in classes
        or not key.startswith(arguments)
        or all(key in run.settings for run in runs)
    ]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return each key's last parts, as many as make it unique and clear.

    `model.init_args.stacking.weight` is `stacking.weight`, `model.init_args.depth_dropout` is
    `depth_dropout`.
    """
    all_parts = [
        [part for part in key.split(".") if part not in ("init_args", "class_path")] for key in keys
    ]

    def same_end(parts: list[str], count: int) -> int:
        return sum(other[-count:] == parts[-count:] for other in all_parts)

    short = {}
    for key, parts in zip(keys, all_parts, strict=True):
        count = 2 if len(parts) > 2 else 1
        while count < len(parts) and same_end(parts, count) > 1:
            count += 1
        short[key] = ".".join(parts[-count:]) if same_end(parts, count) == 1 else key
    return short
