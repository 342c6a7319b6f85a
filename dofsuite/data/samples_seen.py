"""The count of samples trained on, the whole state of the data."""

from __future__ import annotations

from typing import Any, Protocol

from pytorch_lightning import Callback, LightningModule, Trainer


class CountsSamples(Protocol):
    """Data with a count of the samples trained on."""

    samples_seen: int


class SamplesSeen(Callback):
    """Adds a global batch to `data.samples_seen` when its training begins.

    At the start of a batch, because checkpoints are written in its end hooks and would otherwise be
    one batch short. An exception within a batch subtracts it before an exception checkpoint is
    written, so that it is trained on after resuming. `ShardData` puts this callback first in the
    trainer's list.
    """

    def __init__(self, data: CountsSamples, global_batch: int) -> None:
        self.data, self.global_batch = data, global_batch
        self.in_flight = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.in_flight = self.global_batch
        self.data.samples_seen += self.global_batch

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.in_flight = 0

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.data.samples_seen -= self.in_flight
        self.in_flight = 0
