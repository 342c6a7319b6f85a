"""Depth of field for any photograph, at full size, without a generative model.

python -m dofsuite.lens PHOTO... --focus X,Y --bokeh B -o OUT [--depth FILE|auto|plane]
python -m dofsuite.lens PHOTO... --focus X,Y --f-number N [--focal-length MM] -o OUT
python -m dofsuite.lens PHOTO... --deblur packaged|DIR [--focus X,Y --bokeh B] -o OUT
"""

import argparse
import sys
from collections.abc import Sequence

from dofsuite.cli import Parser, add_options, config_from, run_command_line
from dofsuite.photography.config import LensConfig


def parser() -> Parser:
    parser = Parser("lens", "Depth of field for any photograph, without a generative model.")
    add_options(parser, LensConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    def run(arguments: argparse.Namespace) -> None:
        config = config_from(LensConfig, arguments)
        from dofsuite.photography.run import photograph_all

        photograph_all(config)

    return run_command_line(run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
