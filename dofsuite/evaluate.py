"""Measure: a run or an export in, the papers' tables out.

    python -m dofsuite.evaluate SUBCOMMAND ...

{subcommands}

`SUBCOMMAND --help` lists its options. The same command again resumes where it was stopped. The
tasks of a job array, or several processes, share the work of one command (by RANK and WORLD_SIZE,
or the variables that SLURM sets).

Exit codes: 0 finished, 2 a mistake that the user can fix (one line on stderr).
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from dofsuite.cli import EXIT_MISTAKE, Parser, add_options, config_from, run_command_line


class Subcommand(NamedTuple):
    """A subcommand: `run(config)` in one module, with the config that another one defines."""

    # Arguments that the general help shows.
    usage: str
    description: str
    # `module:Class` in `dofsuite.evaluation`, a frozen dataclass of `dofsuite.cli.option` fields.
    # Its module imports nothing heavy, so that `--help` is quick.
    config: str
    # Module in `dofsuite.evaluation`, imported once the options are checked.
    run: str


SUBCOMMANDS = {
    "build-benchmark": Subcommand(
        "FOLDER -o DIR",
        "Make a refocus benchmark of a folder of all-in-focus images.",
        "refocus_benchmark.config:BenchmarkConfig",
        "refocus_benchmark.run",
    ),
    "run": Subcommand(
        "RUN --benchmark DIR",
        "Measure runs on a refocus benchmark, beside the renderer, the unchanged reference and "
        "the paper's numbers.",
        "refocus.config:RefocusConfig",
        "refocus.run",
    ),
    "text2image": Subcommand(
        "METHOD.yaml... --prompts FILE -o DIR",
        "Every prompt at every aperture by every method: blur monotonicity, content consistency, "
        "KID and FID.",
        "text2image.config:Text2ImageConfig",
        "text2image.run",
    ),
    "pairs": Subcommand(
        "DIR",
        "Check in a folder of photographs that a smaller aperture gives more blur energy "
        "(EBB!: 96 %).",
        "apertures.config:PairsConfig",
        "apertures.pairs",
    ),
    "ebb": Subcommand(
        "DIR --model RUN",
        "Put our photographs beside EBB!'s: the caption of each f/16 photograph, at f/1.8 and "
        "f/16.",
        "apertures.config:EbbConfig",
        "apertures.ebb",
    ),
    "table": Subcommand(
        "RUN...",
        "Collect an ablation's runs into one table, with mean and spread over seeds.",
        "ablations.config:TableConfig",
        "ablations.run",
    ),
    "study build": Subcommand(
        "NAME=FOLDER... -o DIR",
        "Make the videos of a human study: which of two methods changes the aperture better?",
        "study.config:BuildConfig",
        "study.build",
    ),
    "study serve": Subcommand(
        "DIR",
        "Show a study's page to participants and store their answers.",
        "study.config:ServeConfig",
        "study.server",
    ),
    "study report": Subcommand(
        "DIR",
        "How often our method was preferred to each baseline, with intervals and tests.",
        "study.config:ReportConfig",
        "study.report",
    ),
}


def config_class(name: str) -> type[Any]:
    module, _, class_name = SUBCOMMANDS[name].config.partition(":")
    return getattr(import_module(f"dofsuite.evaluation.{module}"), class_name)


def parser_of(name: str) -> Parser:
    parser = Parser(f"evaluate {name}", SUBCOMMANDS[name].description)
    add_options(parser, config_class(name))
    return parser


def split_words(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split a command line into the subcommand, of one word or two, and its arguments."""
    two_words = " ".join(words[:2])
    return (two_words, list(words[2:])) if two_words in SUBCOMMANDS else (words[0], list(words[1:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    # General help, or the subcommand
    if not words or words[0] in ("-h", "--help"):
        lines = [
            f"    {name} {c.usage}\n        {c.description}" for name, c in SUBCOMMANDS.items()
        ]
        print((__doc__ or "").format(subcommands="\n".join(lines)))
        return 0 if words else EXIT_MISTAKE
    name, rest = split_words(words)
    if name not in SUBCOMMANDS:
        # Of `study nothing` those that begin with `study`
        choices = [each for each in SUBCOMMANDS if each.startswith(f"{name} ")]
        given = " ".join(words[:2]) if choices else name
        print(
            f"evaluate: {given!r} is no subcommand; choose one of "
            f"{', '.join(choices or SUBCOMMANDS)}.",
            file=sys.stderr,
        )
        return EXIT_MISTAKE

    def run(arguments: argparse.Namespace) -> None:
        config = config_from(config_class(name), arguments)
        import_module(f"dofsuite.evaluation.{SUBCOMMANDS[name].run}").run(config)

    return run_command_line(run, parser_of(name), rest)


if __name__ == "__main__":
    sys.exit(main())
