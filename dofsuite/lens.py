"""Depth of field for any photograph, at full size, without a generative model.

python -m dofsuite.lens PHOTO... --focus X,Y --bokeh B -o OUT [--depth FILE|auto|plane]
python -m dofsuite.lens PHOTO... --focus X,Y --f-number N [--focal-length MM] -o OUT
"""

import sys
from collections.abc import Sequence

from dofsuite.cli import Parser, add_options, config_from, run_command_line
from dofsuite.photography.config import LensConfig


def parser() -> Parser:
    parser = Parser("lens", "Depth of field for any photograph, without a generative model.")
    add_options(parser, LensConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    from dofsuite.photography.run import photograph_all

    return run_command_line(
        lambda arguments: photograph_all(config_from(LensConfig, arguments)), parser(), argv
    )


if __name__ == "__main__":
    sys.exit(main())
