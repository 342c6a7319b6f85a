"""The runs of sweeps as their folders record them: what tells them apart, and which differ in the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dofsuite.errors import UserError
from dofsuite.training.run.record import finished_at, stored_config

IGNORED_KEYS = (
    "trainer.logger",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.num_nodes",
    "data.init_args.num_workers",
)
"""Keys that say where and how loudly a run ran, not what it is."""
CLASS_PATH_PARTS = ("init_args", "class_path")
"""Parts of a key that no one need read."""
LONGEST_NAME = 8
"""With more differing settings than this, runs are other experiments, not one sweep's, and named for their folders."""
ABSENT = "absent"
"""What a row says of a key that another of its sweep's runs has."""


class Run(NamedTuple):
    """A finished run."""

    folder: Path
    settings: dict[str, Any]
    """Its resolved experiment: full key to plain value, without `IGNORED_KEYS` and seeds."""
    seeds: dict[str, Any]

    @property
    def sweep(self) -> str:
        """The sweep's name: that of the folder around the run's."""
        return self.folder.resolve().parent.name

    @property
    def name(self) -> str:
        """The run's own folder."""
        return self.folder.resolve().name


class Group(NamedTuple):
    """Runs of a sweep that differ in the seed alone."""

    name: str
    runs: tuple[Run, ...]


class Runs(NamedTuple):
    """The finished runs in order; and of the other paths, why they are none."""

    runs: list[Run]
    left_out: list[str]


def read_runs(paths: Sequence[Path], with_unfinished: bool = False) -> Runs:
    """Read run folders; files among the paths (a report, a log) are passed over.

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
        config = stored_config(path)
        if config is None:
            left_out.append(f"{path}: no run (it has no config.yaml)")
        elif finished_at(path) is None and not with_unfinished:
            left_out.append(f"{path}: not finished")
        else:
            runs.append(run_of(path, config))
    if not runs:
        reason = left_out[0] if left_out else f"{paths[0]}: no folder"
        raise UserError(
            f"table: none of the {len(paths)} paths is a finished run, such as {reason}."
        )
    return Runs(runs, left_out)


def in_order(path: Path) -> tuple[str, int, str]:
    """Sort by sweep, then by number, so that run 10 comes after run 9."""
    name = path.name
    return (path.parent.as_posix(), int(name) if name.isdecimal() else -1, name)


def run_of(folder: Path, config: dict[str, Any]) -> Run:
    """Tell a run's seeds from its other settings."""
    values = {key: value for key, value in flat(config).items() if key not in IGNORED_KEYS}
    seeds = {key for key in values if key.split(".")[-1] in ("seed", "seed_everything")}
    return Run(
        folder,
        {k: v for k, v in values.items() if k not in seeds},
        {k: values[k] for k in sorted(seeds)},
    )


def flat(node: Any, key: str = "") -> dict[str, Any]:
    """Return {"a": {"b": 1}} as {"a.b": 1}; lists and empty mappings are values."""
    if not isinstance(node, dict) or not node:
        return {key: node}
    return {
        k: v
        for name, child in node.items()
        for k, v in flat(child, f"{key}.{name}".lstrip(".")).items()
    }


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Group each sweep's runs that differ in the seed alone, in order; a group is named for what tells it apart.

    Where the runs of a sweep differ in nothing, or in more than `LONGEST_NAME` settings, a group is
    named for its runs' folders. With several sweeps every name begins with the sweep's.
    """
    sweeps: dict[Path, list[Run]] = {}
    for run in runs:
        sweeps.setdefault(run.folder.resolve().parent, []).append(run)
    groups = []
    for own in sweeps.values():
        keys = differing_keys(own)
        together: dict[tuple[str, ...], list[Run]] = {}
        for run in own:
            together.setdefault(
                tuple(shown(run.settings.get(key, ABSENT)) for key in keys), []
            ).append(run)
        for values, alike in together.items():
            short = short_keys(keys)
            name = ", ".join(
                f"{short[key]} {value}" for key, value in zip(keys, values, strict=True)
            )
            if not 0 < len(keys) <= LONGEST_NAME:
                name = ", ".join(run.name for run in alike)
            groups.append(
                Group(f"{alike[0].sweep}: {name}" if len(sweeps) > 1 else name, tuple(alike))
            )
    return groups


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """Return the keys in which runs differ, without the arguments of a class that only some of them have."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    differing = [
        key for key in keys if len({shown(run.settings.get(key, ABSENT)) for run in runs}) > 1
    ]
    classes = [key.removesuffix("class_path") for key in differing if key.endswith(".class_path")]
    return [
        key
        for key in differing
        if key.endswith(".class_path")
        or not any(key.startswith(f"{place}init_args.") for place in classes)
        or all(key in run.settings for run in runs)
    ]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return each key's last words, as many as tell it from the others and from what it might be taken for.

    `model.init_args.stacking.weight` is `stacking.weight`, `model.init_args.depth_dropout` is
    `depth_dropout`.
    """
    words = {key: [part for part in key.split(".") if part not in CLASS_PATH_PARTS] for key in keys}
    short = {}
    for key, own in words.items():
        needed = 2 if len(own) > 2 else 1
        while (
            needed < len(own)
            and sum(other[-needed:] == own[-needed:] for other in words.values()) > 1
        ):
            needed += 1
        name = ".".join(own[-needed:])
        short[key] = (
            name if sum(other[-needed:] == own[-needed:] for other in words.values()) == 1 else key
        )
    return short


def shown(value: Any) -> str:
    """Return a setting as a row's name shows it; a class by its own name."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    is_class = (
        isinstance(value, str)
        and all(part.isidentifier() for part in text.split("."))
        and "." in text
    )
    return text.rpartition(".")[2] if is_class else text
