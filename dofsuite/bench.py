"""Speed: one JSON line a measurement, beside the floor that this machine's own rates set.

    python -m dofsuite.bench WHAT ...

{benchmarks}

`WHAT --help` lists its options. With a GPU, times are measured, and the floor follows from the
rates of a matrix product and of a copy in the same process. On a CPU the full size is counted:
operations, FFTs, kernel launches.

Exit codes: 0 finished, 2 a mistake that the user can fix (one line on stderr).
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from dofsuite.cli import EXIT_MISTAKE, Parser, add_options, config_from, run_command_line

# A benchmark is a module of `dofsuite.benchmarks` of the same name with `measure(config)`, which
# yields `Measurement`s; its config is in `dofsuite.benchmarks.config`, without heavy imports.
BENCHMARKS = {
    "refocus": "A training step of refocus at FLUX.1-dev's size.",
    "text2image": "The steps of text2image at SDXL's size.",
    "lens": "The lens, forward and backward, by method and radius.",
    "simulate": "All variants (planes x levels) of one image.",
    "data": "Samples a second of shards, over a bare tar read of the same ones.",
    "startup": "Imports and commands, over `import torch`.",
}


def parser_of(name: str) -> Parser:
    parser = Parser(f"bench {name}", BENCHMARKS[name])
    add_options(parser, config_class(name))
    return parser


def config_class(name: str) -> type[Any]:
    class_name = f"{name[0].upper()}{name[1:]}Config"
    return getattr(import_module("dofsuite.benchmarks.config"), class_name)


def module_of(name: str) -> Any:
    return import_module(f"dofsuite.benchmarks.{name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    # General help, or the benchmark
    if not words or words[0] in ("-h", "--help"):
        lines = [f"    {name:<12}{description}" for name, description in BENCHMARKS.items()]
        print((__doc__ or "").format(benchmarks="\n".join(lines)))
        return 0 if words else EXIT_MISTAKE
    name, rest = words[0], words[1:]
    if name not in BENCHMARKS:
        names = ", ".join(BENCHMARKS)
        print(f"bench: {name!r} is no benchmark; choose one of {names}.", file=sys.stderr)
        return EXIT_MISTAKE

    def run(arguments: argparse.Namespace) -> None:
        module = module_of(name)
        for measurement in module.measure(config_from(config_class(name), arguments)):
            print(measurement.json_line(), flush=True)

    return run_command_line(run, parser_of(name), rest)


if __name__ == "__main__":
    sys.exit(main())
