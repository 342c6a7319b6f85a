"""Fit one experiment: an experiment file in, a trained run out.

    python -m dofsuite.fit experiments/quickstart.yaml
    python -m dofsuite.fit experiments/quickstart.yaml --trainer.max_steps 200
    python -m dofsuite.fit experiments/quickstart.yaml --sweep experiments/sweeps/S.txt --index 3

Everything of a run lies in `runs/<stem of the file>/` (a sweep line's in `runs/<stem of the
sweep>/<index>/`, or where `--trainer.default_root_dir` says). Running the same command again
resumes; a finished run says so.

    --check               say what the run needs (data, downloads, disk, memory, hours), and stop:
                          exit code 2 where it cannot run
    --print_config        print the experiment with every default filled in, and stop
    --sweep FILE          take the overrides of line --index N of FILE, from 0 (by default
                          SLURM_ARRAY_TASK_ID)
    --sweep FILE --count  print how many lines FILE has
    --allow-import PKG    let the file name classes of package PKG too
    --model.help CLASS    what CLASS takes (also --data.help CLASS)

Exit codes: 0 finished, 2 a mistake that the user can fix (one line on stderr), 143 stopped by
Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2 after saving (the same command goes on from there; a second
Ctrl-C ends at once, without saving and with the same code).
"""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from dofsuite.cli import EXIT_MISTAKE
from dofsuite.errors import UserError
from dofsuite.experiment.command import EXIT_STOPPED, read_command, read_sweep
from dofsuite.experiment.experiment import read_experiment


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; every user mistake ends here, as one line on stderr and exit code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        command = read_command(argv)
        if command.help:
            print(__doc__)
        elif command.count and command.sweep is not None:
            print(len(read_sweep(command.sweep)))
        elif command.print_config:
            print(read_experiment(command).as_yaml(), end="")
        elif command.check:
            from dofsuite.experiment.check import check

            return check(read_experiment(command))
        else:
            experiment = read_experiment(command)
            # Imports torch and Lightning, which the branches above do not need.
            from dofsuite.experiment.run import run

            return run(experiment, argv)
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        return EXIT_MISTAKE
    return 0


STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End with the code that says go on.

    Not by an exception, which is lost where the signal arrives inside a `__del__`. What is half
    written has a temporary name, and the next start removes it.
    """
    os.write(2, f"stopped by {signal.Signals(number).name}; the same command goes on.\n".encode())
    os._exit(EXIT_STOPPED)


if __name__ == "__main__":
    # Before the first step and after the last (imports, weights, export) there is nothing to save.
    # Until here, a tenth of a second, signals are Python's: Ctrl-C is 130, others end it as kill.
    for stop_signal in STOP_SIGNALS:
        signal.signal(stop_signal, end_at_once)
    exit_code = main()
    # SLURM repeats signals; while the interpreter ends, one more must not change the exit code.
    for stop_signal in STOP_SIGNALS:
        signal.signal(stop_signal, signal.SIG_IGN)
    sys.exit(exit_code)
