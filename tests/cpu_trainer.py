"""A quiet trainer on a CPU, whose checkpoints are a run's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from dofsuite.training import AtomicCheckpointIO


def cpu_trainer(
    folder: Path | None, steps: int, callbacks: Sequence[pl.Callback], **more: Any
) -> pl.Trainer:
    return pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()],
        **more,
    )
