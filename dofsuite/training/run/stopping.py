"""Stop signals, and how the data loader's workers survive them.

Slurm signals every process of a job step. A worker that dies of it makes the training process fail
in the middle of a step, before it can save; so workers keep running until the training process has
saved and ends them.
"""

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from lightning_fabric.utilities.seed import pl_worker_init_function
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
WORKER_GRACE_S = 600


class RunStopped(Exception):
    """A stop signal ended the run after it was saved; the same command resumes it."""

    def __init__(self, signal_number: int | None, step: int) -> None:
        """Name the signal (None: another rank's) and the step."""
        name = signal.Signals(signal_number).name if signal_number else "another rank's signal"
        super().__init__(f"stopped by {name} at step {step}")


def shield_workers(data: LightningDataModule) -> None:
    """Make the workers of this data module's loaders survive stop signals."""
    for name in ("train_dataloader", "val_dataloader"):
        setattr(data, name, partial(_shielded, getattr(data, name)))


def _shielded(build: Callable[[], Any]) -> Any:
    loaders = build()
    for loader in loaders if isinstance(loaders, list | tuple) else [loaders]:
        if isinstance(loader, DataLoader) and loader.num_workers > 0:
            loader.worker_init_fn = partial(
                _init_worker, loader.worker_init_fn or pl_worker_init_function
            )
    return loaders


def _init_worker(init: Callable[[int], None], worker: int) -> None:
    """Initialize a worker as usual, then replace the signal handlers (torch's too)."""
    init(worker)
    signal.signal(signal.SIGTERM, _end_later)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _end_later(number: int, frame: FrameType | None) -> None:
    # The training process needs time to save and end its workers; an orphan dies of the alarm.
    signal.alarm(WORKER_GRACE_S)
