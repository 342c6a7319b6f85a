"""When a run saves itself: every N steps, at its last step, and when it is told to stop.

The periodic checkpoint is the guarantee. The one on a signal is a courtesy of the scheduler's: it
is written at the end of the optimiser step under way, so the time between signal and kill must hold
one step and one save.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch.distributed.tensor import DTensor

from dofsuite.errors import UserError
from dofsuite.training.checkpoints.resume import (
    checkpoint_path,
    checkpoints_of,
    damage_of,
    run_folder,
)
from dofsuite.training.run.divergence import DIVERGED_MEND
from dofsuite.training.run.global_batch import rescale_batch_counters
from dofsuite.training.run.stopping import STOP_SIGNALS, RunStopped


class RunCheckpoint(Checkpoint):
    """Save `<run folder>/checkpoints/step-00000100.ckpt` every N optimiser steps, and keep the newest few.

    Unlike Lightning's ModelCheckpoint it never saves in the middle of an accumulation (a resumed
    run would lose the gradients gathered so far), writes each checkpoint once, and keeps the one
    before the newest to fall back on.
    """

    def __init__(self, every_n_train_steps: int = 500, keep: int = 2) -> None:
        """Choose when to save.

        Args:
            every_n_train_steps: Optimiser steps between two checkpoints; at most these are lost in
                a crash.
            keep: How many checkpoints are kept, the newest ones; at least 2, so that a damaged one
                can be passed over.
        """
        if every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps must be at least 1, not {every_n_train_steps}")
        if keep < 2:
            raise ValueError(
                f"keep must be at least 2, not {keep}: the one before the newest is the fallback"
            )
        super().__init__()
        self.every_n_train_steps = every_n_train_steps
        self.keep = keep
        self._signal: int | None = None
        self._stopping = self._accumulating = False
        self._read_back = False  # the first checkpoint of a start is read back: better now than on the day it is needed
        self._step = self._saved_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the stop signals from Lightning, which would end the run in the middle of an accumulation.

        Lightning's teardown gives every signal back to whoever had it before the run.
        """
        self._step = self._saved_step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        """Only take note: saving inside a handler can hang, or save half a step. A second Ctrl-C ends at once."""
        self._signal = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """End a stopped run here, where the last step's log row is written too."""
        self._end_if_stopping(trainer)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Save where a save is due and an optimiser step has just been made."""
        self._accumulating = self._step == trainer.global_step
        self._step = trainer.global_step
        if self._accumulating:
            return
        self._stopping = self._told_to_stop(trainer)
        if (
            self._stopping
            or self._step % self.every_n_train_steps == 0
            or self._step == trainer.max_steps
        ):
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, *args: Any) -> None:
        """A stopped run does not begin to validate."""
        self._end_if_stopping(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Stop inside a long validation too, where one process can decide it alone (ranks may have unlike batches)."""
        decidable = trainer.state.fn == "fit" and trainer.world_size == 1 and not self._accumulating
        if decidable and self._signal is not None:
            self._stopping = True
            self._end_if_stopping(trainer)

    def on_train_end(self, trainer: Trainer, *args: Any) -> None:
        """Save the last step, where a limit other than `max_steps` ended the run."""
        if trainer.global_step != self._saved_step:
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note how many batches made a step, in which the checkpoint's batches are counted."""
        checkpoint["accumulate_grad_batches"] = trainer.accumulate_grad_batches

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count them as this run accumulates; Lightning restores its loops from `checkpoint` after this."""
        now = trainer.accumulate_grad_batches
        checkpoint.update(
            rescale_batch_counters(checkpoint, checkpoint.get("accumulate_grad_batches", now), now)
        )

    def _told_to_stop(self, trainer: Trainer) -> bool:
        """Whether any rank was signalled: all ranks must take the same turn."""
        return trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)

    def _end_if_stopping(self, trainer: Trainer) -> None:
        if not self._stopping:
            return
        if trainer.global_step != self._saved_step:
            self._save(trainer)
        raise RunStopped(self._signal, trainer.global_step)

    def _is_finite(self, trainer: Trainer) -> bool:
        """Whether all trained weights are finite, on every rank: each may hold a share of its own."""
        trained = [
            weight for weight in trainer.lightning_module.parameters() if weight.requires_grad
        ]
        shares = [
            weight.to_local() if isinstance(weight, DTensor) else weight for weight in trained
        ]
        return trainer.strategy.reduce_boolean_decision(
            all(share.isfinite().all() for share in shares), all=True
        )

    def _save(self, trainer: Trainer) -> None:
        """Write the checkpoint of this step, then remove the oldest beyond `keep`.

        Raises:
            UserError: The weights are no longer finite (the checkpoints before stay), or the disk
                is full.
        """
        folder = run_folder(trainer)
        if not self._is_finite(trainer):
            raise UserError(
                f"{folder}: step {trainer.global_step}: the weights are no longer finite and are not saved; "
                f"{DIVERGED_MEND}"
            )
        path = checkpoint_path(folder, trainer.global_step)
        trainer.save_checkpoint(path)
        self._saved_step = trainer.global_step
        if trainer.is_global_zero:
            if not self._read_back and (damage := damage_of(path)) is not None:
                raise RuntimeError(
                    f"{path} cannot be resumed from ({damage}): it may hold only tensors and plain values"
                )
            self._read_back = True
            for path in checkpoints_of(folder)[self.keep :]:
                path.unlink(missing_ok=True)
