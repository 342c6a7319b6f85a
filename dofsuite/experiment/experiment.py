"""From a command to an experiment that holds together, or to one sentence saying why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dofsuite.errors import UserError
from dofsuite.experiment.command import COMMAND_LINE, Command
from dofsuite.experiment.keys import ProvidedKeys, keys_of_options, source_of
from dofsuite.experiment.yaml_file import check_option, read_experiment_file
from dofsuite.training.run.dotted_keys import flat

if TYPE_CHECKING:
    from pytorch_lightning import Callback, Trainer
    from pytorch_lightning.loggers import Logger

    from dofsuite.experiment.parser import ExperimentCLI


EXAMPLES = {"model": "dofsuite.refocus.Refocus", "data": "dofsuite.data.ShardData"}


@dataclass(frozen=True)
class Experiment:
    """A parsed experiment: every key is known and of its type, and nothing is built yet."""

    cli: ExperimentCLI
    sources: tuple[ProvidedKeys, ...]

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every key with its value, defaults filled in, as plain values."""
        return self.cli.resolved()

    @property
    def folder(self) -> Path:
        return Path(self.config["trainer"]["default_root_dir"])

    def as_yaml(self) -> str:
        """The whole experiment as a file that can be run."""
        return yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)

    def check_against(self, folder: Path) -> None:
        """Make sure that a run folder holds this experiment, or nothing that could be resumed.

        Raises:
            UserError: It holds another one; names the first key that differs.
        """
        from dofsuite.training.checkpoints.resume import checkpoints_of
        from dofsuite.training.run.record import (
            differing_key,
            differing_step,
            finished_at,
            stored_config,
        )

        stored = stored_config(folder)
        if stored is None or not (checkpoints_of(folder) or finished_at(folder)):
            return
        # A key whose value may not change.
        given = self.cli.resolved(without_defaults=True)
        if difference := differing_key(stored, self.config, given):
            reason = (
                "{2!r}, but the run in {folder} was begun with {1!r}; keep that value or name "
                "another folder with --trainer.default_root_dir"
            )
            raise _mistake(self.sources, difference[0], reason.format(*difference, folder=folder))
        # The number of samples of an optimizer step.
        if step := differing_step(stored, self.config, folder):
            raise _mistake(self.sources, *step)

    def check_numbers(self) -> None:
        """Check numbers that would be refused only once the data are there.

        Raises:
            UserError: Of an optimizer, or what Lightning would divide by.
        """
        from dofsuite.experiment.optimizer_numbers import refused_numbers

        accumulated = self.config["trainer"].get("accumulate_grad_batches") or 0
        if accumulated < 1:
            reason = f"at least 1 is expected, not {accumulated}"
            raise _mistake(self.sources, "trainer.accumulate_grad_batches", reason)
        for key, reason in refused_numbers(self.config):
            raise _mistake(self.sources, key, reason)

    def check_shards(self, folder: Path) -> None:
        """Make sure that the shards are those on which the run in a folder has trained.

        Raises:
            UserError: Others lie at the same place, or a remote manifest cannot be read.
        """
        from dofsuite.experiment.shards_of_run import check_same_shards
        from dofsuite.training.checkpoints.resume import checkpoints_of

        if checkpoints_of(folder):
            check_same_shards(self.sources, self.config, folder)

    def build(
        self, log: Logger, plugins: Sequence[Any], callbacks: Sequence[Callback], bar: Callback
    ) -> Trainer:
        """Build model, data module and trainer.

        Args:
            log: The run's logger, next to the file's own; `trainer.logger: false` turns it off.
            plugins: In addition to the file's.
            callbacks: In addition to the file's.
            bar: Shows progress, unless `trainer.enable_progress_bar` is false.

        Raises:
            UserError: A class refuses its values.
        """
        trainer = self.config["trainer"]
        self._check_trainer(trainer)
        shown = [] if trainer["enable_progress_bar"] is False else [bar]
        with self.refused_values():
            return self.cli.build(
                log, trainer["logger"] is not False, plugins, [*callbacks, *shown]
            )

    def _check_trainer(self, trainer: dict[str, Any]) -> None:
        """Check what Lightning would name vaguely of this machine."""
        from torch import cuda

        if trainer.get("accelerator") in ("gpu", "cuda") and not cuda.is_available():
            reason = "no GPU is here; leave the key out, or set it to cpu"
            raise _mistake(self.sources, "trainer.accelerator", reason)

    def model(self) -> Any:
        """Build the model alone, which is configured and holds no weights yet.

        Raises:
            UserError: A class refuses its values.
        """
        with self.refused_values():
            return self.cli.parser.instantiate(self.cli.config)["model"]

    @contextmanager
    def refused_values(self, *, by_lightning: bool = False) -> Iterator[None]:
        """Turn a class's `ValueError` on its values into a `UserError`; a bug keeps its traceback.

        Args:
            by_lightning: Take only what Lightning itself refuses (once training runs, any other
                ValueError is a bug).
        """
        from pytorch_lightning.utilities.exceptions import MisconfigurationException

        from dofsuite.experiment.messages import key_named_in, raised_in, root_of

        try:
            yield
        except UserError:
            raise
        except Exception as error:
            # What was raised first, below the parser's own wrapping.
            root = root_of(error)
            if isinstance(root, UserError):
                raise root from None
            # Of torch: what an optimizer or a loader says of a number.
            refusing_packages = ("pytorch_lightning.", "lightning_fabric.", "torch.optim.")
            is_lightning_s = raised_in(root).startswith((*refusing_packages, "torch.utils.data."))
            refusing = [ValueError] if is_lightning_s or not by_lightning else []
            if not isinstance(root, (MisconfigurationException, *refusing)):
                raise root from root.__cause__
            # The key that its sentence names.
            reason = " ".join(str(root).split()).removesuffix(".")
            key = key_named_in(reason, self.config)
            raise _mistake(self.sources, key, reason) from error


def read_experiment(command: Command) -> Experiment:
    """Parse the experiment that `command` names; nothing is built and no weights are read.

    Raises:
        UserError: A mistake in the file, the sweep line or the command line, by its source and key.
    """
    assert command.file is not None
    content = read_experiment_file(command.file)
    for word in (*command.sweep_overrides, *command.overrides):
        check_option(word.partition("=")[2] if word.startswith("--") else word)
    sources = (
        ProvidedKeys(str(command.file), tuple(flat(content)), as_option=False),
        ProvidedKeys(
            f"{command.sweep}, line of index {command.index}",
            keys_of_options(command.sweep_overrides),
            as_option=True,
        ),
        ProvidedKeys(COMMAND_LINE, keys_of_options(command.overrides), as_option=True),
    )
    for section in EXAMPLES:
        _check_class(command, content, sources, section)
    # Only now what takes seconds: a missing file or a doubled key is answered at once.
    from dofsuite.experiment.confined import ALLOWED_BY, check_confined
    from dofsuite.experiment.messages import read_message
    from dofsuite.experiment.optimizers import prepare_optimizers
    from dofsuite.experiment.parser import ParserMistake
    from dofsuite.experiment.unknown_keys import (
        check_renamed,
        check_unknown_keys,
        parse,
        resolved_without,
        unknown_key,
    )

    words = (*command.sweep_overrides, *command.overrides)
    check_renamed(sources, content, words)
    prepare_optimizers(command.file, content, words)
    try:
        experiment = Experiment(parse(command, words), sources)
        # Without a folder of its own a run lies in the one that its file names
        if experiment.config["trainer"]["default_root_dir"] is None:
            words = (*words, "--trainer.default_root_dir", str(command.run_folder))
            experiment = Experiment(parse(command, words), sources)
    except ParserMistake as mistake:
        message = read_message(str(mistake))
        if not message.is_unknown_key:
            raise _mistake(sources, message.key, message.reason) from None
        source, given = source_of(sources, message.key)
        raise unknown_key(source, given, resolved_without(command, content, given)) from None
    check_unknown_keys(sources, experiment.config)
    if ALLOWED_BY not in command.importable:
        check_confined(sources, experiment.config["trainer"])
    experiment.check_numbers()
    return experiment


# The error for a value that cannot be, by the source that gave it.
def _mistake(sources: Sequence[ProvidedKeys], key: str, reason: str) -> UserError:
    stop = "" if reason.endswith("?") else "."
    if not key:  # a word that is no option at all
        return UserError(f"{COMMAND_LINE}: {reason}{stop}")
    source, given = source_of(sources, key)
    return UserError(f"{source.source}: {source.spelled(given)}: {reason}{stop}")


def _check_class(
    command: Command, content: dict[str, Any], sources: Sequence[ProvidedKeys], section: str
) -> None:
    """Check that a section names a class; the parser would take Lightning's base class."""
    value = content.get(section)
    if isinstance(value, str) or (isinstance(value, dict) and "class_path" in value):
        return
    if any(
        key in (section, f"{section}.class_path") for source in sources[1:] for key in source.keys
    ):
        return
    missing = f"{section}.class_path" if isinstance(value, dict) else section
    raise UserError(
        f"{command.file}: {missing}: missing; name the class, as in class_path: "
        f"{EXAMPLES[section]}."
    )
