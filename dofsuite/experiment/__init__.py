"""Experiments: read strictly (file, sweep line, command line; one sentence for a mistake) and run in their folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.experiment.command import Command as Command
    from dofsuite.experiment.command import read_command as read_command
    from dofsuite.experiment.command import read_sweep as read_sweep
    from dofsuite.experiment.experiment import Experiment as Experiment
    from dofsuite.experiment.experiment import read_experiment as read_experiment

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Command": "command",
        "Experiment": "experiment",
        "read_command": "command",
        "read_experiment": "experiment",
        "read_sweep": "command",
    },
)
