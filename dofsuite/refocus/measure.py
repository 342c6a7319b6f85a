"""The probe of a trained model outside training, beside what needs no model.

python -m dofsuite.refocus.measure [RUN_OR_EXPORT] [--scenes FOLDER] [--count N] [-o FILE]
"""

import sys
from collections.abc import Sequence

from dofsuite.cli import Parser, add_options, config_from, run_command_line
from dofsuite.refocus.measure_config import MeasureConfig


def parser() -> Parser:
    parser = Parser(
        "refocus.measure",
        "Measure a refocus model on held-out scenes, beside what needs no model.",
    )
    add_options(parser, MeasureConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    # Imports torch: after the options were parsed
    def run(config: MeasureConfig) -> None:
        from dofsuite.refocus.measurement import measure_and_print

        measure_and_print(config)

    return run_command_line(
        lambda arguments: run(config_from(MeasureConfig, arguments)), parser(), argv
    )


if __name__ == "__main__":
    sys.exit(main())
