"""The command line of `fit`: file, sweep line and overrides, read before anything heavy loads."""

import argparse
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from dofsuite.errors import UserError

COMMAND_LINE = "command line"
# 128 + SIGTERM: ended on a signal, saved if a step was made; the same command goes on.
EXIT_STOPPED = 143
# `fit`'s own options, which are no keys of an experiment.
SWITCHES = ("--count", "--print_config", "--check", "--help")
OWN_OPTIONS = (*SWITCHES, "--sweep", "--index", "--allow-import")


@dataclass(frozen=True)
class Command:
    """One call of `python -m dofsuite.fit`."""

    # The experiment file.
    file: Path | None
    # `--key value` words of the command line; they win over the sweep's and the file's.
    overrides: tuple[str, ...] = ()
    # A file with one line of overrides an array task.
    sweep: Path | None = None
    # The sweep line to run, counted from 0.
    index: int | None = None
    # Only print how many lines the sweep has.
    count: bool = False
    # Only print the resolved experiment.
    print_config: bool = False
    # Only say whether it will fit.
    check: bool = False
    # Only print the usage.
    help: bool = False
    # Further packages whose classes the file may name.
    importable: tuple[str, ...] = ()
    # The words of the sweep line.
    sweep_overrides: tuple[str, ...] = ()

    @property
    def run_folder(self) -> Path:
        """Where the run lies unless `--trainer.default_root_dir` says otherwise."""
        if self.sweep is not None:
            return Path("runs") / self.sweep.stem / str(self.index)
        assert self.file is not None, "a sweep alone can only be counted"
        return Path("runs") / self.file.stem


class _Parser(argparse.ArgumentParser):
    """Of `fit`'s own options; everything else is an override."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{COMMAND_LINE}: {message.removeprefix('argument ')}.")


def read_command(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Command:
    """Read the command line.

    Raises:
        UserError: No experiment file, two of them, an option without its value, or a sweep line
            that does not exist.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--sweep", type=Path)
    parser.add_argument("--index", type=_index, default=environment.get("SLURM_ARRAY_TASK_ID"))
    parser.add_argument("--allow-import", action="append", default=[])
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--print_config", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    for word in argv:
        if re.fullmatch(r"-[A-Za-z]{2,}.*", word) and not word.startswith("-inf"):
            raise UserError(f"{COMMAND_LINE}: {word}: write it with two dashes, -{word}.")
        if word.partition("=")[0] in SWITCHES and "=" in word:
            raise UserError(f"{COMMAND_LINE}: {word}: it takes no value.")
    own, rest = parser.parse_known_args(list(argv))

    # What is left: the experiment file, then overrides.
    if {"--config", "-c"} & {word.partition("=")[0] for word in rest}:
        raise UserError(
            f"{COMMAND_LINE}: --config: the experiment file is the first argument, without "
            "--config."
        )
    file = Path(rest.pop(0)) if rest and not rest[0].startswith("-") else None
    command = Command(
        file=file,
        overrides=tuple(rest),
        sweep=own.sweep,
        index=own.index,
        count=own.count,
        print_config=own.print_config,
        check=own.check,
        help=own.help,
        importable=tuple(_package(name) for names in own.allow_import for name in names.split(",")),
    )
    return command if command.help else _checked(command)


def _index(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


def _package(text: str) -> str:
    is_path = all(part.isidentifier() for part in text.split("."))
    if not is_path or text.split(".")[0] == "jsonargparse":
        raise UserError(
            f"{COMMAND_LINE}: --allow-import: {text!r} is no package that may be allowed; name "
            "one, as in --allow-import mypackage."
        )
    return text


def _checked(command: Command) -> Command:
    """The command, with its sweep line read, once nothing is missing."""
    lines = [] if command.sweep is None else read_sweep(command.sweep)
    # A sweep can be counted without an experiment; nothing else can be done without one.
    if command.count:
        if command.sweep is None:
            raise UserError(f"{COMMAND_LINE}: --count: needs --sweep FILE, whose lines it counts.")
        return command
    if command.file is None:
        raise UserError(
            f"{COMMAND_LINE}: name an experiment file first, as in: "
            "python -m dofsuite.fit experiments/X.yaml."
        )
    # The line of the sweep.
    if command.sweep is None:
        return replace(command, index=None)
    if command.index is None:
        raise UserError(
            f"{COMMAND_LINE}: --index: say which of the {len(lines)} lines of {command.sweep} to "
            "run."
        )
    if command.index >= len(lines):
        raise UserError(
            f"{COMMAND_LINE}: --index: {command.index} is beyond {command.sweep}, which has "
            f"{len(lines)} lines, counted from 0."
        )
    return replace(command, sweep_overrides=tuple(lines[command.index]))


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
