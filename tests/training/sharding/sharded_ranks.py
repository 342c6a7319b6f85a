"""A program that trains the tiny module on two gloo ranks, weights sharded over both; its test
starts it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from dofsuite.data import ShardData
from dofsuite.text2image import Stages, Text2Image, Training
from dofsuite.text2image.probe import Probe
from tests.text2image.tiny import tiny_data, tiny_module, train

STEPS, STOPPED = 10, 2
RESUMED_STEPS, HALF_STEPS = 6, 4
OPTIONS = {  # the clipping acts on some steps and not on others
    # The teacher's step, a cycle of the deep stage, and a Deep and a Shallow one of the full stage.
    "stages": Stages(teacher=1, deep=3, critic_steps=2, critic_order="same_kind"),
    "training": Training(micro_batches=2, gradient_clip=0.6, ema_decay=0.5),
    "gradient_checkpointing": True,
    "exif_conditioned": ("generator", "critic"),
}
HALF = {
    "stages": Stages(deep=0, critic_steps=2, critic_order="same_kind"),
    "gradient_checkpointing": True,
    "teacher_dtype": "bfloat16",
}
HALF |= {"training": Training(gradient_clip=0.6)}
"""One micro-batch, in mixed precision, with a teacher that is never trained."""


def data_of_both(stages: Stages, rank_batch: int, world_size: int) -> ShardData:
    """The same images for one rank as for two, and prompts to validate with."""
    data = tiny_data(stages, rank_batch, world_size)
    data.val, data.val_batch_size = "synthetic:prompts", 2
    return data


def share_held(weights: list[nn.Parameter]) -> float:
    """Part of the numbers of these weights that lie on this rank."""
    held = sum(
        weight.to_local().numel() if isinstance(weight, DTensor) else weight.numel()
        for weight in weights
    )
    return held / sum(weight.numel() for weight in weights)


class ReducedGradients(pl.Callback):
    """Counts how often gradients are reduced in each step."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.send = distributed.reduce_scatter_single

    def on_train_batch_start(self, *_: Any) -> None:
        self.steps.append(0)
        distributed.reduce_scatter_single = self.counted

    def counted(self, *args: Any, **options: Any) -> Any:
        self.steps[-1] += 1
        return self.send(*args, **options)

    def on_train_batch_end(self, *_: Any) -> None:
        distributed.reduce_scatter_single = self.send


def fit(
    name: str, options: dict[str, Any], steps: int, resume: Path | None = None, **more: Any
) -> Text2Image:
    """Train with FSDP2, and write this rank's report."""
    module, sent = tiny_module(**options), ReducedGradients()
    more = {"devices": 2, "strategy": "fsdp2", "callbacks": [sent], **more}
    losses = train(
        module, steps, folder / name, resume, data_of_both(module.stages, 2, world_size=2), **more
    )
    networks = module.networks
    report = {
        "losses": losses,
        "sent": sent.steps,
        "share": {
            net: share_held(list(getattr(networks, net).parameters()))
            for net in module.meta_networks
        },
        "frozen": share_held([*networks.depth.parameters(), *networks.saliency.parameters()]),
    }
    (folder / f"{name}-{module.global_rank}.json").write_text(json.dumps(report))
    return module


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    scenes = (4, 1)[int(os.environ.get("LOCAL_RANK", 0))]  # ranks that validate unequally often
    probe = {"probe": Probe(f_numbers=(1.8, 22.0), scenes=2 * scenes)}
    validate = {"val_check_interval": 5, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    module = fit("full", {**OPTIONS, **probe}, STEPS, **validate)
    if module.global_rank == 0:
        module.export(folder / "export")
    start = folder / "full" / "checkpoints" / f"step-{STOPPED:08d}.ckpt"
    fit("resumed", OPTIONS, RESUMED_STEPS, start, limit_val_batches=0)
    fit("half", HALF, HALF_STEPS, precision="bf16-mixed", limit_val_batches=0)
