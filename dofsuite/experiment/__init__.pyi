from dofsuite.experiment.command import Command as Command
from dofsuite.experiment.command import read_command as read_command
from dofsuite.experiment.command import read_sweep as read_sweep
from dofsuite.experiment.experiment import Experiment as Experiment
from dofsuite.experiment.experiment import read_experiment as read_experiment
