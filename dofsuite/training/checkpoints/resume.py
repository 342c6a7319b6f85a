"""Where a run starts: at its newest readable checkpoint, or warm from another run's last one."""

import os
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from dofsuite.errors import UserError
from dofsuite.files import write_text
from dofsuite.training.checkpoints.io import read_checkpoint
from dofsuite.training.checkpoints.sharded import REST


def run_folder(trainer: Trainer) -> Path:
    """Return the one folder that holds everything of this run."""
    return Path(trainer.default_root_dir)


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:08d}.ckpt"


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step-"))


def checkpoints_of(folder: Path) -> list[Path]:
    """Return the checkpoints of a run folder, newest first."""
    files = (folder / "checkpoints").glob("step-*.ckpt")
    numbered = [file for file in files if re.fullmatch(r"step-\d+\.ckpt", file.name)]
    return sorted(numbered, key=step_of, reverse=True)


def newest_checkpoint(
    folder: Path, say: Callable[[str], None] = print, *, is_own: bool = True
) -> Path | None:
    """Return a run's newest undamaged checkpoint, or None for a run that has saved nothing yet.

    A damaged one is reported to `say`, and in the run's own folder renamed to `*.damaged`; the one
    before it is used.

    Raises:
        UserError: There are checkpoints, and all of them are damaged.
    """
    checkpoints = checkpoints_of(folder)
    for path in checkpoints:
        if (reason := damage_of(path)) is None:
            return path
        done = "set aside" if is_own else "left as it is"
        say(f"{path}: damaged ({reason}); {done}, going back to the checkpoint before it.")
        if is_own:
            with suppress(FileNotFoundError):  # another rank was quicker
                os.replace(path, path.with_name(path.name + ".damaged"))
    if checkpoints:
        raise UserError(
            f"{folder / 'checkpoints'}: every checkpoint is damaged; "
            "remove that folder to start this run from its first step."
        )
    return None


def damage_of(checkpoint: Path) -> str | None:
    """Return why a checkpoint cannot be resumed from (checksums included), or None if it can."""
    try:
        # Of a sharded checkpoint the parts are told by their sizes: no rank reads the others' here.
        file = checkpoint / REST if checkpoint.is_dir() else checkpoint
        with zipfile.ZipFile(file) as archive:
            if (name := archive.testzip()) is not None:
                return f"checksum of {name}"
            # torch reads what the directory says, another length or kind of member too, unchecked.
            for member in archive.infolist():
                is_compressed = member.compress_type or member.compress_size != member.file_size
                if is_compressed or member.external_attr:
                    return f"directory entry of {member.filename}"
        state = read_checkpoint(checkpoint, mmap=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        return (str(error.__cause__ or error) or type(error).__name__).splitlines()[0]
    if not isinstance(state, dict):
        return "no checkpoint"
    missing = {"state_dict", "optimizer_states", "loops", "global_step"} - state.keys()
    return f"without {', '.join(sorted(missing))}" if missing else None


def choose_start(folder: Path, continue_from: str | None) -> tuple[Path | None, bool]:
    """Return the checkpoint to start from (None: from scratch), and whether it is another run's.

    A run's own checkpoint takes precedence: `continue_from` is for its first start only.

    Raises:
        UserError: Every checkpoint of the run is damaged, or the run to continue is missing or has
            saved nothing.
    """
    own = newest_checkpoint(folder)
    if own is not None or continue_from is None:
        return own, False
    earlier = Path(continue_from)
    if not earlier.is_dir():
        raise UserError(
            f"{earlier}: continue_from: there is no such run folder; run its experiment first."
        )
    if (last := newest_checkpoint(earlier, is_own=False)) is None:
        raise UserError(f"{earlier}: continue_from: this run has saved no checkpoint yet.")
    return last, True


def as_warm_start(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint that starts another run warm.

    Weights, optimizer state, the step counter and the count of samples seen are kept (the mix of
    sources and the noise go on instead of repeating). Epoch and batch counters begin at zero;
    callbacks and learning-rate schedulers are the new run's own.
    """
    kept = {
        key: _only_totals(value)
        for key, value in checkpoint["loops"]["fit_loop"].items()
        if "optim_progress" in key or "optim_step" in key
    }
    kept["epoch_loop.state_dict"] = {"_batches_that_stepped": checkpoint["global_step"]}
    return {
        **checkpoint,
        "epoch": 0,
        "callbacks": {},
        "lr_schedulers": [],
        "loops": {**checkpoint["loops"], "fit_loop": kept},
    }


def _only_totals(progress: Any) -> Any:
    """A progress record of Lightning with its counts within the epoch set to zero."""
    if not isinstance(progress, dict):
        return progress
    return {
        key: {name: 0 for name in value} if key == "current" else _only_totals(value)
        for key, value in progress.items()
    }


class KeepNewOptimizerHparams(Callback):
    """Keep this experiment's learning rate etc. when the optimizer state comes from another run."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before the other run's state is loaded.
        self._settings = [
            [
                {key: value for key, value in group.items() if key != "params"}
                for group in optimizer.param_groups
            ]
            for optimizer in trainer.optimizers
        ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for optimizer, settings in zip(trainer.optimizers, self._settings, strict=True):
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)


class LastValidation(Callback):
    """Records the step of the last complete validation, and makes up for one that was cut off.

    A run that is stopped between a save and the end of the validation after it resumes behind that
    validation: it is run again before the next step. Every run ends with one.
    """

    def __init__(self, folder: Path) -> None:
        """Read what earlier starts have recorded in the run folder."""
        self.path = folder / ".validated"
        try:
            self.step: int | None = int(self.path.read_text())
        except (OSError, ValueError):
            self.step = None
        self._is_checked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Nothing is recorded at the first step, by older versions, and beyond the resumed step.
        if self.step is None or self.step > trainer.global_step:
            self._record(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Run the validation that was due at the resumed step, if it is not recorded."""
        if self._is_checked:
            return
        self._is_checked = True
        every = trainer.val_check_batch
        if trainer.check_val_every_n_epoch is not None or not isinstance(every, int):
            return
        # Batches before this one; no step was made since the last validation where they agree.
        loop = trainer.fit_loop.epoch_loop
        is_due = loop.total_batch_idx > 0 and loop.total_batch_idx % every == 0
        if not is_due or self.step == trainer.global_step or not trainer.enable_validation:
            return
        # As Lightning does it between two steps.
        connector = trainer._logger_connector
        first_iteration = connector._first_loop_iter
        trainer.validating = True
        loop.val_loop.run()
        trainer.training = True
        connector._first_loop_iter = first_iteration

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._record(trainer)

    def _record(self, trainer: Trainer) -> None:
        self.step = trainer.global_step
        if trainer.is_global_zero:
            write_text(self.path, f"{self.step}\n")
