"""Command lines (`python -m dofsuite.<name>`): a user's mistake is one sentence and exit code 2."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields
from typing import Any, NoReturn, TypeVar

from dofsuite.errors import UserError

EXIT_MISTAKE = 2
Config = TypeVar("Config")


class Parser(argparse.ArgumentParser):
    """One sentence instead of a page of usage, and no abbreviated options."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(
            prog=f"python -m dofsuite.{name}", description=description, allow_abbrev=False
        )
        self.name = name

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.name}: {message}.")


def focus_point(text: str) -> tuple[float, float]:
    """Parse `X,Y`, fractions of width and height."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--focus: {text!r} is not X,Y; give fractions of width and height, as in 0.3,0.6."
        ) from None
    return x, y


def run_command_line(
    run: Callable[[argparse.Namespace], None], parser: Parser, argv: Sequence[str] | None
) -> int:
    """Parse, run, and return the exit code; a `UserError` is printed as one line on stderr."""
    try:
        run(parser.parse_args(argv))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_MISTAKE
    return 0


def option(*flags: str, default: Any = MISSING, **settings: Any) -> Any:
    """Declare a field of a frozen, keyword-only config dataclass that the command line fills.

    Args:
        flags: `--name`, `-n`; without any the argument is positional.
        default: Of the field and the option; without one it is required.
        settings: As for `argparse.ArgumentParser.add_argument`; `help` documents the field.
    """
    return field(default=default, metadata={"flags": flags, **settings})


def add_options(parser: argparse.ArgumentParser, config: type) -> None:
    """Add an argument for each field of a dataclass whose fields are made by `option`."""
    for each in fields(config):
        settings: dict[str, Any] = dict(each.metadata)
        flags = settings.pop("flags")
        if flags:
            settings |= {"dest": each.name, "required": each.default is MISSING}
        if each.default is not MISSING:
            # argparse appends to a default, so a tuple has to be a list there.
            is_tuple = isinstance(each.default, tuple)
            settings["default"] = list(each.default) if is_tuple else each.default
        parser.add_argument(*(flags or [each.name]), **settings)


def config_from(config: type[Config], arguments: argparse.Namespace) -> Config:
    """Build a config from parsed arguments, lists as tuples; its own checks raise `UserError`."""
    return config(
        **{key: tuple(v) if isinstance(v, list) else v for key, v in vars(arguments).items()}
    )
