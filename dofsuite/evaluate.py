"""Measure: a run or an export in, the papers' tables out.

    python -m dofsuite.evaluate build-benchmark FOLDER -o DIR     a refocus benchmark of
    all-in-focus images
    python -m dofsuite.evaluate run RUN --benchmark DIR           DiffCamera's tables on it
    python -m dofsuite.evaluate text2image                        the text-to-image tables
    python -m dofsuite.evaluate pairs DIR                         does blur follow the aperture in a
    folder of pairs?
    python -m dofsuite.evaluate ebb DIR                           our f/1.8 and f/16 beside
    photographs
    python -m dofsuite.evaluate table RUN...                      an ablation's runs in one table

`SUBCOMMAND --help` says what each takes. Running the same command again goes on where it was
stopped; the tasks of a job array or several processes share one command's work (RANK and
WORLD_SIZE, or what SLURM sets).

Exit codes: 0 finished, 2 a mistake that the user can mend (one line on stderr).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from dofsuite.cli import EXIT_MISTAKE, Parser, answer
from dofsuite.errors import UserError

SUBCOMMANDS = {
    "build-benchmark": "refocus_benchmark.run",
    "run": "refocus.run",
    "text2image": "text2image.run",
    "pairs": "apertures.pairs",
    "ebb": "apertures.ebb",
    "table": "ablations.run",
}
"""What is asked for, and the module of `dofsuite.evaluation` that does it: `DESCRIPTION`, `configure`, `run`."""


def subcommand(name: str) -> ModuleType:
    """Import the module of a subcommand.

    Raises:
        UserError: There is no such subcommand.
    """
    if name not in SUBCOMMANDS:
        raise UserError(
            f"evaluate: {name!r} is no subcommand; choose one of {', '.join(SUBCOMMANDS)}."
        )
    return importlib.import_module(f"dofsuite.evaluation.{SUBCOMMANDS[name]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else EXIT_MISTAKE
    try:
        module = subcommand(words[0])
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        return EXIT_MISTAKE
    parser = Parser(f"evaluate {words[0]}", module.DESCRIPTION)
    module.configure(parser)
    return answer(module.run, parser, words[1:])


if __name__ == "__main__":
    sys.exit(main())
