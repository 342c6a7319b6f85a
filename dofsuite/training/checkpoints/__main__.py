"""Write a checkpoint that lies in parts as one file, which Lightning and torch can read alone.

    python -m dofsuite.training.checkpoints runs/x/checkpoints/step-00000300.ckpt -o step-300.ckpt

It needs the memory of all its tensors. (A run resumes from parts as they are.)
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dofsuite.cli import Parser, run_command_line
from dofsuite.errors import UserError


def parser() -> Parser:
    result = Parser("training.checkpoints", "Write a checkpoint in parts as one file.")
    result.add_argument("checkpoint", type=Path, help="folder of a sharded checkpoint, or a file")
    result.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    return result


def run(arguments: argparse.Namespace) -> None:
    """Write the file.

    Raises:
        UserError: The checkpoint is damaged or missing, or the file exists or cannot be written.
    """
    if arguments.output.exists():
        raise UserError(f"{arguments.output}: there already; name another file.")
    from dofsuite.training.checkpoints.io import AtomicCheckpointIO, read_checkpoint

    AtomicCheckpointIO().save_checkpoint(read_checkpoint(arguments.checkpoint), arguments.output)
    print(arguments.output)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command_line(run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
