"""Stored variants of all-in-focus images: DiffCamera's focal planes x bokeh levels, or a subset.

python -m dofsuite.simulate DIR|SHARDS -o OUT [--planes D,D,...] [--levels B,B,...]
"""

import argparse
import sys
from collections.abc import Sequence

from dofsuite.cli import Parser, add_options, config_from, run_command_line
from dofsuite.simulation.config import SimulateConfig

DESCRIPTION = (
    "Render all-in-focus images with depth on DiffCamera's grid (21 focal planes x 20 bokeh levels "
    "and the image itself, 421 variants), or a part of it, into OUT/IMAGE/. Before it starts it "
    "shows how large the blur will be and the disk that is needed. An image's folder appears whole "
    "or not at all; the same command again makes what is missing. Training needs none of it: it "
    "renders what it draws."
)


def parser() -> Parser:
    parser = Parser("simulate", DESCRIPTION)
    add_options(parser, SimulateConfig)
    return parser


def run(arguments: argparse.Namespace) -> None:
    config = config_from(SimulateConfig, arguments)
    from dofsuite.simulation.run import simulate  # heavy: once the options are checked

    simulate(config)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    return run_command_line(run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
