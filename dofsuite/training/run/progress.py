"""Progress that fits where it is read: a bar on a terminal, one plain line every N steps in a log file."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from dofsuite.training.checkpoints.resume import checkpoints_of, run_folder

WARM_UP_STEPS = 2  # the first steps of a start compile, cache and fill pipelines: they say nothing about the rest


class RunProgress(ProgressBar):
    """Step, loss, seconds a step and time left, over the whole run (not an epoch).

    On a terminal it is a bar; elsewhere a line every `trainer.log_every_n_steps` steps, written at
    once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._enabled = True
        self._step = 0
        self._timed_from: tuple[int, float] | None = None

    def disable(self) -> None:
        """Say nothing (Lightning calls this on every rank but the first)."""
        self._enabled = False

    def enable(self) -> None:
        """Speak."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print without breaking the bar."""
        if self._enabled:
            tqdm.write(" ".join(map(str, args)), file=sys.stdout)
            sys.stdout.flush()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where the run begins or resumes."""
        self._step, self._timed_from = trainer.global_step, None
        self._begin_step = self._step
        if self._enabled and sys.stdout.isatty():
            total = trainer.max_steps if trainer.max_steps > 0 else None
            # A terminal that does not know its width says 0, in which tqdm would draw nothing.
            width = shutil.get_terminal_size().columns
            self._bar = tqdm(
                total=total, initial=self._step, unit="step", file=sys.stdout, ncols=width
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by the optimiser steps made, and speak where it is due."""
        step, self._step = self._step, trainer.global_step
        if self._step == step or not self._enabled:
            return
        if self._timed_from is None and self._step - self._begin_step >= WARM_UP_STEPS:
            self._timed_from = (self._step, time.monotonic())
        # Reading the loss waits for the device, so it is not done at every step.
        due = self._step % trainer.log_every_n_steps == 0 or self._step == trainer.max_steps
        loss = _loss(outputs) if due else None
        if self._bar is not None:
            if loss is not None:
                self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            self._bar.update(self._step - step)
        elif due:
            print(self._line(trainer, loss), flush=True)

    def _line(self, trainer: Trainer, loss: float | None) -> str:
        of_total = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
        parts = [f"step {self._step}{of_total}"] + ([] if loss is None else [f"loss {loss:.4f}"])
        if self._timed_from and self._step > self._timed_from[0]:
            seconds = (time.monotonic() - self._timed_from[1]) / (self._step - self._timed_from[0])
            parts.append(f"{seconds:.2f} s/step")
            if trainer.max_steps > 0:
                parts.append(f"{duration(seconds * (trainer.max_steps - self._step))} left")
        return "  ".join(parts)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not count the time of validation as a step's."""
        self._paused_at = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shift the clock by the time that validation took."""
        if self._timed_from is not None:
            self._timed_from = (
                self._timed_from[0],
                self._timed_from[1] + time.monotonic() - self._paused_at,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar as it stands."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the bar as it stands, so that what follows begins on a line of its own; answer Ctrl-C."""
        self._close()
        if isinstance(exception, KeyboardInterrupt):
            saved = checkpoints_of(run_folder(trainer))
            then = (
                f"the same command goes on from {saved[0].name}"
                if saved
                else "nothing was saved yet"
            )
            self.print(f"interrupted at step {self._step}; {then}.")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _loss(outputs: Any) -> float | None:
    """The loss among a training step's outputs, or None where the step gives none (manual optimisation)."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return None if loss is None else float(loss)


def duration(seconds: float) -> str:
    """A length of time as people say it.

    >>> duration(42.0), duration(400.0), duration(1e4)
    ('42 s', '6 min 40 s', '2 h 46 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
