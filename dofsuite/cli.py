"""A room's own command line (`python -m dofsuite.<room>`): a mistake is one sentence and exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from dofsuite.errors import UserError

EXIT_MISTAKE = 2


class Parser(argparse.ArgumentParser):
    """One sentence instead of a page of usage, and no abbreviated options."""

    def __init__(self, name: str, description: str) -> None:
        """Parse the words after `python -m dofsuite.<name>`."""
        super().__init__(
            prog=f"python -m dofsuite.{name}", description=description, allow_abbrev=False
        )
        self.name = name

    def error(self, message: str) -> None:
        """Raise what `answer` prints.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.name}: {message}.")


def answer(
    run: Callable[[argparse.Namespace], None], parser: Parser, argv: Sequence[str] | None
) -> int:
    """Parse and run; return the exit code, after one line on the standard error stream for a mistake."""
    try:
        run(parser.parse_args(argv))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_MISTAKE
    return 0
