"""The text-to-image module as small as it can be, on the synthetic scenes at 32 px: real classes,
other sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from dofsuite.backbones import SmallDepth, SmallSaliency, SmallSdxl
from dofsuite.data import Batch, CycleMix, ShardData
from dofsuite.text2image import FocusPredictorConfig, Stages, Text2Image
from dofsuite.training.checkpoints.every_n import RunCheckpoint
from tests.cpu_trainer import cpu_trainer

SIZE_PX, BATCH = 32, 2
# In the order in which a sample also serves a second step.
STAGES = Stages(teacher=2, deep=6, critic_order="same_kind")
"""Two teacher steps, one cycle, then the full stage: a Deep cycle from step 8 on and a Shallow one
from step 14 on.
"""
FULL = Stages(deep=0, critic_order="same_kind")
"""A Deep cycle from step 0 on and a Shallow one from step 6 on."""
GENERATOR, SHALLOW_GENERATOR = 0, 6
"""Steps of `FULL`."""
SIZES = {
    "channels": (32, 32),
    "downscale": 2,
    "num_tokens": 24,
    "token_dim": 32,
    "pooled_dim": 32,
    "time_id_dim": 8,
}
TINY_SDXL = SmallSdxl(**SIZES, prediction="epsilon")  # as SDXL


def roughened(network: nn.Module) -> nn.Module:
    """Make new weights five times as large: as they are drawn, the small networks predict 6 m for
    every image.
    """
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.mul_(5)
    return network


class RoughDepth(SmallDepth):
    """Predicts 3 to 10 m, by the image."""

    def load(self):
        return roughened(super().load())


class RoughSaliency(SmallSaliency):
    """Predicts 0.2 to 0.9, by the image."""

    def load(self):
        return roughened(super().load())


def adam(parameters):
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)


def still(parameters):
    """Learning rate 0: every step uses the first weights."""
    return torch.optim.SGD(parameters, lr=0.0)


def tiny_module(optimizer=adam, **options: Any) -> Text2Image:
    networks = {
        "backbone": TINY_SDXL,
        "depth": RoughDepth(weights=None),
        "saliency": RoughSaliency(weights=None),
        "focus": FocusPredictorConfig(small=True),
    }
    optimizers = {
        f"{name}_optimizer": optimizer for name in ("generator", "critic", "teacher", "focus")
    }
    module = Text2Image(
        **{**networks, **optimizers, "stages": STAGES, "size_px": SIZE_PX, **options}
    )
    module.configure_model()
    return module


def tiny_data(stages: Stages = STAGES, batch_size: int = BATCH, world_size: int = 1) -> ShardData:
    mix = CycleMix(batch_size * world_size, stages.steps_per_cycle, stages.full_from or 0)
    sources = {"deep": "synthetic:deep", "shallow": "synthetic:shallow"}
    return ShardData(train=sources, batch_size=batch_size, size_px=SIZE_PX, source_mix=mix)


@cache
def tiny_batch(shallow: bool = False, batch_size: int = BATCH) -> Batch:
    """One batch of the Deep set; or of the Shallow set, at f/1.4 and 200 mm, whose discs are pixels
    wide at 32 px.
    """
    data = tiny_data(FULL, batch_size)
    data.samples_seen = SHALLOW_GENERATOR * batch_size if shallow else 0
    batch = next(iter(data.train_dataloader()))
    if not shallow:
        return batch
    return batch._replace(
        f_number=torch.full((batch_size,), 1.4), focal_length_mm=torch.full((batch_size,), 200.0)
    )


class History(pl.Callback):
    """Keeps the losses of every step."""

    def __init__(self) -> None:
        self.losses: dict[int, dict[str, float]] = {}

    def on_train_batch_end(self, trainer, module, outputs, *args) -> None:
        self.losses[trainer.global_step - 1] = {name: float(loss) for name, loss in outputs.items()}


def train(
    module: Text2Image,
    steps: int,
    folder: Path | None = None,
    resume: Path | None = None,
    data: ShardData | None = None,
    callbacks: Sequence[pl.Callback] = (),
    **more: Any,
) -> dict[int, dict[str, float]]:
    """Train to `steps`, with a checkpoint after every step in `folder`; returns the losses of the
    steps taken.
    """
    history = History()
    save = [RunCheckpoint(every_n_train_steps=1, keep=100)] if folder is not None else []
    trainer = cpu_trainer(
        folder,
        steps,
        [*save, history, *callbacks],
        enable_checkpointing=bool(save),
        **{"devices": 1, **more},
    )
    trainer.fit(module, datamodule=data or tiny_data(module.stages), ckpt_path=resume)
    return history.losses
