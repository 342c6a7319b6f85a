"""Photographs in, training sets out, by the rules of the papers.

python -m dofsuite.curate INPUT... -o DIR [--workers N]
python -m dofsuite.curate INPUT... -o DIR --dry-run
python -m dofsuite.curate INPUT... -o DIR --stage map|merge|write [--part I/N]
python -m dofsuite.curate INPUT... -o DIR --for refocus [--decisions CSV]

The same command again does only what is missing.
"""

import argparse
import sys
from collections.abc import Sequence

from dofsuite.cli import Parser, add_options, config_from, run_command_line
from dofsuite.curation.config import CurateConfig


def parser() -> Parser:
    parser = Parser("curate", "Photographs in, training sets out, by the rules of the papers.")
    add_options(parser, CurateConfig)
    return parser


def run(arguments: argparse.Namespace) -> None:
    from dofsuite.curation.run import curate

    curate(config_from(CurateConfig, arguments))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    return run_command_line(run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
