"""A real Lightning run of a tiny module that writes down what it trained on; also started as a
program by tests.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from dofsuite.data import ShareRamp
from dofsuite.data.batch import Batch
from dofsuite.data.buckets import Buckets
from dofsuite.data.module import ShardData

# Shapes (24, 8), (16, 16) and (8, 24) at 16 px; four samples in a row, whatever the batch size.
BUCKETS = Buckets(("1:2", "1:1", "2:1"), multiple_px=8, samples_in_row=4)
SOURCE_MIX = ShareRamp(until_step=2, full_step=5, samples_per_step=8)


class Recorder(LightningModule):
    """One linear layer; `trained` holds (position, key) of every sample whose training step was
    finished.

    `samples_of` counts the samples of each optimiser step.
    """

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.fail_at = fail_at
        self.trained: list[tuple[int, str]] = []
        self.samples_of: Counter[int] = Counter()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == self.fail_at:
            raise KeyboardInterrupt
        self.trained += zip(batch.index.tolist(), batch.key, strict=True)
        self.samples_of[self.global_step] += len(batch.key)
        return self.layer(batch.image_srgb.mean((2, 3))).pow(2).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val", batch.disparity.mean(), sync_dist=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def train(
    sources: dict[str, str],
    folder: Path,
    *,
    steps: int,
    workers: int = 0,
    resume: Path | None = None,
    **options: Any,
) -> Recorder:
    """Train to `steps`, a checkpoint after every step, and return the module."""
    val, batch_size, devices = (
        options.get("val"),
        options.get("batch_size", 4),
        options.get("devices", 1),
    )
    data = ShardData(
        sources,
        val,
        batch_size=batch_size,
        num_workers=workers,
        size_px=16,
        flip=0.0,
        source_mix=SOURCE_MIX,
        seed=5,
        buckets=BUCKETS if options.get("buckets") else None,
        require_depth=options.get("require_depth", True),
    )
    checkpoint = ModelCheckpoint(
        folder,
        "{step}",
        save_top_k=-1,
        every_n_train_steps=1,
        save_on_exception="fail_at" in options,
    )
    module = Recorder(options.get("fail_at", -1))
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_steps=steps,
        max_epochs=-1,
        callbacks=[checkpoint],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        val_check_interval=options.get("val_check_interval", 1.0),
        num_sanity_val_steps=0,
        accumulate_grad_batches=options.get("accumulate", 1),
    )
    trainer.fit(module, data, ckpt_path=resume)
    return module


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    resume = Path(given["resume"]) if given["resume"] else None
    run = train(
        given["sources"],
        Path(given["folder"]),
        steps=given["steps"],
        workers=given["workers"],
        resume=resume,
        devices=given["ranks"],
        **given.get("options", {}),
    )
    Path(given["folder"], f"rank{run.global_rank}.json").write_text(json.dumps(run.trained))
