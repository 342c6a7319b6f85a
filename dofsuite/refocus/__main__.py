"""Refocus photographs with a trained model.

python -m dofsuite.refocus PHOTO... --focus X,Y... --bokeh B... -o OUT [--full-size]
    [--depth FILE|auto|plane] [--model RUN_OR_EXPORT]
"""

import sys
from collections.abc import Sequence

from dofsuite.cli import Parser, add_options, config_from, run_command_line
from dofsuite.refocus.config import RefocusConfig


def parser() -> Parser:
    parser = Parser("refocus", "Refocus photographs with a trained model.")
    add_options(parser, RefocusConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    # Imports torch: after the options were parsed
    def run(config: RefocusConfig) -> None:
        from dofsuite.refocus.run import refocus_all

        refocus_all(config)

    return run_command_line(
        lambda arguments: run(config_from(RefocusConfig, arguments)), parser(), argv
    )


if __name__ == "__main__":
    sys.exit(main())
