"""The command line of `fit`, before anything heavy is imported: which file, which sweep line, which overrides."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dofsuite.errors import UserError

COMMAND_LINE = "command line"
EXIT_USER_ERROR = 2  # a mistake that the user can mend, in one line on stderr
EXIT_STOPPED = (
    143  # 128 + SIGTERM: ended on a signal, saved if a step was made; the same command goes on
)


@dataclass(frozen=True)
class Command:
    """What one call of `python -m dofsuite.fit` asks for."""

    file: Path | None
    """The experiment file."""
    overrides: tuple[str, ...] = ()
    """`--key value` words of the command line; they win over the sweep's, which win over the file's."""
    sweep: Path | None = None
    """A file with one line of overrides an array task."""
    index: int | None = None
    """The sweep line to run, counted from 0."""
    count: bool = False
    """Only say how many lines the sweep has."""
    print_config: bool = False
    """Only print the resolved experiment."""
    help: bool = False
    """Only say how this is used."""
    importable: tuple[str, ...] = ()
    """Further packages whose classes the file may name."""
    sweep_overrides: tuple[str, ...] = field(default=())
    """The words of the sweep line."""

    @property
    def run_folder(self) -> Path:
        """Where the run lies unless `--trainer.default_root_dir` says otherwise."""
        if self.sweep is not None:
            return Path("runs") / self.sweep.stem / str(self.index)
        return Path("runs") / self.file.stem

    @property
    def sweep_label(self) -> str:
        """How a mistake in the sweep line is addressed."""
        return f"{self.sweep}, line of index {self.index}"


def read_command(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Command:
    """Read the command line.

    Raises:
        UserError: No experiment file, two of them, an option without its value, or a sweep line
            that does not exist.
    """
    words = list(argv)
    own: dict[str, list[str]] = {"--sweep": [], "--index": [], "--allow-import": []}
    flags = {"--count": False, "--print_config": False, "--help": False, "-h": False}
    rest: list[str] = []
    while words:
        name, equals, value = words.pop(0).partition("=")
        if name in own:
            if not equals and not words:
                raise UserError(f"{COMMAND_LINE}: {name}: needs a value.")
            own[name].append(value if equals else words.pop(0))
        elif name in flags and not equals:
            flags[name] = True
        else:
            rest.append(name + equals + value)
    if {"--config", "-c"} & {word.partition("=")[0] for word in rest}:
        raise UserError(
            f"{COMMAND_LINE}: --config: the experiment file is the first argument, without --config."
        )
    files = [Path(rest.pop(0))] if rest and not rest[0].startswith("-") else []
    command = Command(
        file=files[0] if files else None,
        overrides=tuple(rest),
        sweep=Path(own["--sweep"][-1]) if own["--sweep"] else None,
        index=_index(own["--index"], environment),
        count=flags["--count"],
        print_config=flags["--print_config"],
        help=flags["--help"] or flags["-h"],
        importable=tuple(
            package for packages in own["--allow-import"] for package in packages.split(",")
        ),
    )
    return command if command.help else _checked(command)


def _index(given: list[str], environment: Mapping[str, str]) -> int | None:
    """The sweep index: the one given, else this array task's."""
    text = given[-1] if given else environment.get("SLURM_ARRAY_TASK_ID")
    if text is None:
        return None
    if not text.isdecimal():
        raise UserError(f"{COMMAND_LINE}: --index: expected a whole number from 0, got {text!r}.")
    return int(text)


def _checked(command: Command) -> Command:
    """The command, with its sweep line read, once nothing is missing."""
    if command.sweep is None:
        if command.count:
            raise UserError(f"{COMMAND_LINE}: --count: needs --sweep FILE, whose lines it counts.")
        return Command(**{**command.__dict__, "index": None}) if command.file else _no_file()
    lines = read_sweep(command.sweep)
    if command.count:
        return command
    if command.file is None:
        _no_file()
    if command.index is None:
        raise UserError(
            f"{COMMAND_LINE}: --index: say which of the {len(lines)} lines of {command.sweep} to run."
        )
    if command.index >= len(lines):
        raise UserError(
            f"{COMMAND_LINE}: --index: {command.index} is beyond {command.sweep}, which has {len(lines)} lines, "
            f"counted from 0."
        )
    return Command(**{**command.__dict__, "sweep_overrides": tuple(lines[command.index])})


def _no_file() -> Command:
    raise UserError(
        f"{COMMAND_LINE}: name an experiment file first, as in: python -m dofsuite.fit experiments/X.yaml."
    )


def read_sweep(path: Path) -> list[list[str]]:
    """The lines of a sweep as words; blank lines and lines that begin with # do not count.

    Raises:
        UserError: The file is missing, a quotation is left open, or a line does not begin with an
            override.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such sweep file.")
    lines = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise UserError(f"{path}: line {number}: {str(error).lower()}.") from None
        if words and not words[0].startswith("--"):
            raise UserError(
                f"{path}: line {number}: overrides are written --key value, not {words[0]!r}."
            )
        if words:
            lines.append(words)
    return lines
