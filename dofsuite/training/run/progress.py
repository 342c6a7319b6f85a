"""Progress of a run: a bar on a terminal, one plain line every N steps in a log file."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, cast

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from dofsuite.training.checkpoints.resume import checkpoints_of, run_folder

# First steps of a start, which are not timed: they compile, cache and fill pipelines.
WARMUP_STEPS = 2


class RunProgress(ProgressBar):
    """Step, loss, seconds per step and time left, over the run (not an epoch).

    On a terminal it is a bar; elsewhere a line every `trainer.log_every_n_steps` steps, flushed at
    once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._enabled = True
        self._step = 0
        self._timed_from: tuple[int, float] | None = None

    def disable(self) -> None:
        # Lightning calls this on every rank but the first.
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print without breaking the bar."""
        if self._enabled:
            tqdm.write(" ".join(map(str, args)), file=sys.stdout)
            sys.stdout.flush()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = self._begin_step = trainer.global_step
        self._timed_from = None
        if self._enabled and sys.stdout.isatty():
            self._bar = tqdm(
                total=trainer.max_steps if trainer.max_steps > 0 else None,
                initial=self._step,
                unit="step",
                file=sys.stdout,
                # A terminal may report a width of 0, in which tqdm would draw nothing.
                ncols=shutil.get_terminal_size().columns,
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Only optimizer steps count, not the batches of an accumulation.
        step, self._step = self._step, trainer.global_step
        if self._step == step or not self._enabled:
            return
        if self._timed_from is None and self._step - self._begin_step >= WARMUP_STEPS:
            self._timed_from = (self._step, time.monotonic())
        # Reading the loss synchronizes with the device, so it is not done at every step.
        due = (
            self._step % cast(Any, trainer).log_every_n_steps == 0
            or self._step == trainer.max_steps
        )
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        # Under manual optimization there is none.
        losses = [] if loss is None or not due else [f"loss {float(loss):.4f}"]
        if self._bar is not None:
            if losses:
                self._bar.set_postfix_str(losses[0], refresh=False)
            self._bar.update(self._step - step)
        elif due:
            print(self._line(trainer, losses), flush=True)

    def _line(self, trainer: Trainer, losses: list[str]) -> str:
        of_total = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
        parts = [f"step {self._step}{of_total}", *losses]
        if self._timed_from and self._step > self._timed_from[0]:
            seconds = (time.monotonic() - self._timed_from[1]) / (self._step - self._timed_from[0])
            parts.append(f"{seconds:.2f} s/step")
            if trainer.max_steps > 0:
                parts.append(f"{duration(seconds * (trainer.max_steps - self._step))} left")
        return "  ".join(parts)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._enabled and self._bar is None and not trainer.sanity_checking:
            print(f"step {trainer.global_step}: validating", flush=True)
        # The time of validation is not a step's.
        self._paused_at = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._timed_from is not None:
            step, began = self._timed_from
            self._timed_from = (step, began + time.monotonic() - self._paused_at)

    def on_train_end(self, *args: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # Closing the bar first lets the error begin on a line of its own.
        self.on_train_end()
        if isinstance(exception, KeyboardInterrupt):
            saved = checkpoints_of(run_folder(trainer))
            then = (
                f"the same command resumes from {saved[0].name}" if saved else "nothing saved yet"
            )
            self.print(f"interrupted at step {self._step}; {then}.")


def duration(seconds: float) -> str:
    """Return a duration in words.

    >>> duration(42.0), duration(400.0), duration(1e4)
    ('42 s', '6 min 40 s', '2 h 46 min')
    """
    total_min, rest_s = divmod(round(seconds), 60)
    if total_min >= 60:
        return f"{total_min // 60} h {total_min % 60} min"
    return f"{total_min} min {rest_s} s" if total_min else f"{rest_s} s"
