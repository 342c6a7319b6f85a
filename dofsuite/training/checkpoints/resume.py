"""Where a run continues: its newest checkpoint that can be read, or another run's last one with fresh counters."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from dofsuite.errors import UserError
from dofsuite.training.checkpoints.io import read_checkpoint

_NAME = re.compile(r"step-(\d+)\.ckpt")


def run_folder(trainer: Trainer) -> Path:
    """The one folder in which everything of this run lies."""
    return Path(trainer.default_root_dir)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies in the run folder `folder`."""
    return folder / "checkpoints" / f"step-{step:08d}.ckpt"


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint's name states."""
    return int(_NAME.fullmatch(checkpoint.name)[1])


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints of the run folder `folder`, newest first."""
    found = (
        path for path in (folder / "checkpoints").glob("step-*.ckpt") if _NAME.fullmatch(path.name)
    )
    return sorted(found, key=step_of, reverse=True)


def newest_checkpoint(folder: Path, say: Callable[[str], None] = print) -> Path | None:
    """The newest checkpoint of a run that is whole, or None for a run that has saved nothing yet.

    A damaged one is named to `say`, set aside as `*.damaged`, and the one before it is taken.

    Raises:
        UserError: There are checkpoints, and all of them are damaged.
    """
    checkpoints = checkpoints_of(folder)
    for path in checkpoints:
        if (reason := damage_of(path)) is None:
            return path
        say(f"{path}: damaged ({reason}); set aside, going back to the checkpoint before it.")
        if path.exists():  # another rank may have been quicker
            os.replace(path, path.with_name(path.name + ".damaged"))
    if checkpoints:
        raise UserError(
            f"{folder / 'checkpoints'}: every checkpoint is damaged; "
            "remove that folder to start this run from its first step."
        )
    return None


def damage_of(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be resumed from (its checksums are verified), or None where it can."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if (member := archive.testzip()) is not None:
                return f"checksum of {member}"
        state = read_checkpoint(checkpoint, mmap=True)
    except (UserError, OSError, zipfile.BadZipFile) as error:
        return (str(error.__cause__ or error) or "empty").splitlines()[0]
    missing = {"state_dict", "optimizer_states", "loops", "global_step"} - state.keys()
    return f"without {', '.join(sorted(missing))}" if missing else None


def choose_start(folder: Path, continue_from: str | None) -> tuple[Path | None, bool]:
    """The checkpoint to start a run from (None: from nothing), and whether it is another run's, to be continued.

    A run's own checkpoint comes first: `continue_from` is for its first start only.

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
    if (last := newest_checkpoint(earlier)) is None:
        raise UserError(f"{earlier}: continue_from: this run has saved no checkpoint yet.")
    return last, True


def as_warm_start(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The start of a run that continues another: weights, optimiser, step counter and samples seen go on.

    Epoch and batch counters begin at zero; callbacks and learning-rate schedulers are the new run's
    own. The data
    module keeps its count of samples seen: the mix of sources and the noise go on from there
        instead of repeating.
    """
    loops = checkpoint["loops"]["fit_loop"]
    kept = {
        key: _only_totals(value)
        for key, value in loops.items()
        if "optim_progress" in key or "optim_step" in key
    }
    kept["epoch_loop.state_dict"] = {"_batches_that_stepped": checkpoint["global_step"]}
    fresh = {
        "epoch": 0,
        "callbacks": {},
        "lr_schedulers": [],
        "loops": {**checkpoint["loops"], "fit_loop": kept},
    }
    return {**checkpoint, **fresh}


def _only_totals(progress: Any) -> Any:
    """A progress record of Lightning's with its counts within the epoch set to zero."""
    if not isinstance(progress, dict):
        return progress
    return {
        key: {name: 0 for name in value} if key == "current" else _only_totals(value)
        for key, value in progress.items()
    }


class KeepNewOptimizerHparams(Callback):
    """Keep this experiment's learning rate and other settings where the optimiser's state comes from another run."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the settings as this experiment gives them, before the other run's state is loaded over them."""
        self._settings = [
            [
                {key: value for key, value in group.items() if key != "params"}
                for group in optimizer.param_groups
            ]
            for optimizer in trainer.optimizers
        ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put them back."""
        for optimizer, settings in zip(trainer.optimizers, self._settings, strict=True):
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)


class LastValidation(Callback):
    """Notes the step of the last complete validation, so that a run can end with one of its last step."""

    step: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note it."""
        if not trainer.sanity_checking:
            self.step = trainer.global_step
