"""The parser of experiment files: LightningCLI, told to be strict and short."""

import json
import logging
import warnings
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from jsonargparse import Namespace, set_parsing_settings
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger

from dofsuite.experiment.cards import CardName
from dofsuite.experiment.nulls import null_is_a_value, nulls_as_content
from dofsuite.experiment.optimizers import EIGHT_BIT
from dofsuite.training import NonfiniteGuard, RunCheckpoint

# Whose classes a file may name; `confined` says what those of the trainer may be told to do.
IMPORTABLE = ("dofsuite", "pytorch_lightning", "torch.nn", "torch.optim", "torch.utils.data")
# Lightning's warnings that do not hold for our runs.
IGNORED_WARNINGS = (
    # The data module counts samples seen.
    "You're resuming from a checkpoint that ended before the epoch ended",
    # Rendering is on the training device, loading is light.
    "The '.*_dataloader' does not have many workers",
    # Frozen networks stay in eval mode on purpose.
    r"Found \d+ module\(s\) in eval mode",
    "Checkpoint directory .* exists and is not empty",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own use of torch
)


class ParserMistake(Exception):
    """What the parser found wrong, in its own words."""


class ExperimentParser(LightningArgumentParser):
    """Raises the reason of a mistake, instead of printing a page of usage before it."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise `ParserMistake`; an inner parser's only means that another type is tried next."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise ParserMistake(message) from ex


class ExperimentCLI(LightningCLI):
    """Model, data module and trainer, named by the experiment file; parsing builds nothing."""

    def __init__(
        self,
        words: Sequence[str],
        importable: Sequence[str] = (),
        sections_with_null: Collection[str] = (),
    ) -> None:
        """Parse `words` (`--config FILE --key value …`).

        Args:
            words: Of the command line, the sweep's before the user's.
            importable: Further packages whose classes may be named.
            sections_with_null: Sections for which a null is given somewhere, to be checked.

        Raises:
            ParserMistake: A key or value is not accepted.
        """
        self._sections_with_null = sections_with_null
        set_parsing_settings(
            docstring_parse_attribute_docstrings=True,
            import_path_denylist=["*"],
            import_path_allowlist=[*IMPORTABLE, *EIGHT_BIT, *importable],
        )
        # Keep Lightning's adverts, and the warnings above, out of the log.
        for name in ("pytorch_lightning", "lightning_fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for message in IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            trainer_defaults={
                # The data module's batch sampler gives every rank its slice.
                "use_distributed_sampler": False,
                "enable_model_summary": False,
                # A resumed run would sample before every start.
                "num_sanity_val_steps": 0,
            },
            seed_everything_default=0,
            parser_class=ExperimentParser,
            parser_kwargs={"allow_abbrev": False, "prog": "python -m dofsuite.fit"},
            auto_configure_optimizers=False,
            args=nulls_as_content(words),
            run=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what a run of ours has beside Lightning's three."""
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(NonfiniteGuard, "nonfinite")
        parser.add_argument(
            "--gpu",
            type=CardName | None,
            default=None,
            help="GPU that the file is made for; --check compares with it where none is here.",
        )
        parser.add_argument(
            "--continue_from",
            type=str | None,
            default=None,
            help="Run whose weights, optimizer state and step counter this one starts from.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, without Lightning's warning that this process has arguments of its own."""
        self.config = parser.parse_args(args)
        # The parser lets every null pass.
        given = Namespace({name: self.config[name] for name in self._sections_with_null})
        with null_is_a_value():
            try:
                parser.validate(given, skip_required=True)
            except (TypeError, ValueError) as error:
                raise ParserMistake(str(error)) from error

    def instantiate_classes(self) -> None:
        """Nothing yet: `build` does it, once the run folder agrees with the experiment."""

    def resolved(self, *, without_defaults: bool = False) -> dict[str, Any]:
        """The whole experiment as plain values, with every default filled in (or left out)."""
        # Through JSON, not YAML: the parser writes 5e-07 in YAML, which other readers take for a
        # string.
        return json.loads(
            self.parser.dump(
                self.config, skip_unset=False, skip_default=without_defaults, format="json"
            )
        )

    def build(
        self, log: Logger, log_wanted: bool, plugins: Sequence[Any], callbacks: Sequence[Callback]
    ) -> Trainer:
        """Build model, data module and trainer, with these in addition to the file's."""
        self.config_init = self.parser.instantiate(self.config)
        self.model, self.datamodule = self.config_init["model"], self.config_init["data"]
        self.trainer = self.instantiate_trainer(
            logger=[log, *self._of_trainer("logger")] if log_wanted else False,
            plugins=[*self._of_trainer("plugins"), *plugins],
            callbacks=[*self._of_trainer("callbacks"), *callbacks],
        )
        return self.trainer

    def _of_trainer(self, name: str) -> list[Any]:
        """A trainer argument of the file that takes one object or several, as a list."""
        value = self.config_init["trainer"].get(name)
        if value is None or isinstance(value, bool):
            return []
        return value if isinstance(value, list) else [value]
