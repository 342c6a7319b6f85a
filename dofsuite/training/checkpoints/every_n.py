"""When a run saves a checkpoint: every N steps, at its last step, and on a stop signal.

The periodic checkpoint is the guarantee. The one on a signal is written at the end of the current
optimizer step, so the time between signal and kill must be enough for one step and one save.
"""

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
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
from dofsuite.training.checkpoints.sharded import remove
from dofsuite.training.run.divergence import DIVERGED_HINT
from dofsuite.training.run.global_batch import rescale_batch_counters
from dofsuite.training.run.log import write_row_now
from dofsuite.training.run.stopping import STOP_SIGNALS, RunStopped


class RunCheckpoint(Checkpoint):
    """Save `<run folder>/checkpoints/step-00000100.ckpt` every N optimizer steps; keep the newest.

    Where the strategy writes sharded checkpoints it is a folder.

    Unlike Lightning's ModelCheckpoint it never saves in the middle of an accumulation (a resumed
    run would lose the gradients accumulated so far), writes each checkpoint once, and keeps the one
    before the newest as a fallback.
    """

    def __init__(self, every_n_train_steps: int = 500, keep: int = 2) -> None:
        """Choose when to save.

        Args:
            every_n_train_steps: Optimizer steps between two checkpoints; at most these are lost in
                a crash.
            keep: How many of the newest checkpoints are kept; at least 2, so that a damaged one
                can be skipped.
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
        # The first checkpoint of a start is read back: better now than when it is needed.
        self._is_verified = False
        self._step = self._saved_step = 0
        # Of this start; it may still be in the writing.
        self._newest: Path | None = None
        self._handlers_before: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note what signals do outside of training: Lightning sets handlers of its own later."""
        self._handlers_before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A start that was killed between a save and the removal behind it has left one more.
        self._remove_oldest(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, which would end the run in the middle of an accumulation.

        `on_train_end`, and after an error Lightning, restores those that were set before the run.
        """
        self._step = self._saved_step = trainer.global_step
        self._handle_signals(dict.fromkeys(STOP_SIGNALS, self._note_signal))

    def _handle_signals(self, handlers: Mapping[int, Any]) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        """Only record it: saving inside a handler can hang, or save half a step.

        A second Ctrl-C ends at once, as one outside of training.
        """
        self._signal = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._handlers_before[signal.SIGINT])

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """End a run that is to stop here: the last step's log row is written too."""
        if self._stopping:
            if trainer.global_step != self._saved_step:
                self._save(trainer)
            self._finish(trainer)
            raise RunStopped(self._signal, trainer.global_step)

    def on_validation_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.state.fn != "fit":
            self._handle_signals(self._handlers_before)
        self.on_train_batch_start(trainer)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        # Between the batches of an accumulation nothing is saved.
        self._accumulating = self._step == trainer.global_step
        self._step = trainer.global_step
        if self._accumulating:
            return
        # All ranks stop at the same step when any of them got a signal.
        self._stopping = trainer.strategy.reduce_boolean_decision(
            self._signal is not None, all=False
        )
        is_due = self._step % self.every_n_train_steps == 0 or self._step == trainer.max_steps
        if self._stopping or is_due:
            write_row_now(trainer)
            self._save(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Stop inside a long validation too, on one rank: several may have unequal batch counts."""
        can_stop = trainer.state.fn == "fit" and trainer.world_size == 1 and not self._accumulating
        if can_stop and self._signal is not None:
            self._stopping = True
            self.on_train_batch_start(trainer)

    def on_train_end(self, trainer: Trainer, *args: Any) -> None:
        """Save the last step when a limit other than `max_steps` ended the run.

        Raises:
            RunStopped: A signal came after the last step: what is left is the next start's.
        """
        if trainer.global_step != self._saved_step:
            self._save(trainer)
        self._finish(trainer)
        # From here on all is saved, and a signal may end the run at once.
        self._handle_signals(self._handlers_before)
        if trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False):
            raise RunStopped(self._signal, trainer.global_step)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["accumulate_grad_batches"] = trainer.accumulate_grad_batches

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Rescale batch counters to this accumulation; Lightning restores its loops after this."""
        now = trainer.accumulate_grad_batches
        checkpoint.update(
            rescale_batch_counters(checkpoint, checkpoint.get("accumulate_grad_batches", now), now)
        )

    def _save(self, trainer: Trainer) -> None:
        # Weights that are no longer finite, on any rank, never replace an earlier checkpoint.
        folder = run_folder(trainer)
        trained = [w for w in trainer.lightning_module.parameters() if w.requires_grad]
        shards = [w.to_local() if isinstance(w, DTensor) else w for w in trained]
        is_finite = all(shard.isfinite().all() for shard in shards)
        if not trainer.strategy.reduce_boolean_decision(is_finite, all=True):
            raise UserError(
                f"{folder}: step {trainer.global_step}: the weights are no longer finite and are "
                f"not saved; {DIVERGED_HINT}"
            )
        # Collective: all ranks save; the first one writes, or each its part, maybe later.
        self._finish(trainer)
        self._newest = checkpoint_path(folder, trainer.global_step)
        trainer.save_checkpoint(self._newest)
        self._saved_step = trainer.global_step
        self._tidy(trainer)

    def _finish(self, trainer: Trainer) -> None:
        """Wait for a checkpoint that is being written in the background."""
        if (finish := getattr(trainer.strategy, "finish_saving", None)) is not None:
            finish()
            self._tidy(trainer)

    def _tidy(self, trainer: Trainer) -> None:
        """Verify the first checkpoint of a start, and remove the oldest beyond `keep`."""
        if not trainer.is_global_zero or self._newest is None or not self._newest.exists():
            return
        if not self._is_verified and (damage := damage_of(self._newest)) is not None:
            raise RuntimeError(
                f"{self._newest} cannot be resumed from ({damage}): it may hold only tensors and "
                "plain values"
            )
        self._is_verified = True
        self._remove_oldest(trainer)

    def _remove_oldest(self, trainer: Trainer) -> None:
        for path in checkpoints_of(run_folder(trainer))[self.keep :]:
            if trainer.is_global_zero:
                remove(path)
