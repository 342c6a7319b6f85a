"""A sharded module as small as it can be, and a program that trains it on gloo ranks; tests start
it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from dofsuite.training import FullySharded, RunCheckpoint
from dofsuite.training.sharding.fsdp import data_mesh
from dofsuite.training.sharding.strategy import full_state
from tests.cpu_trainer import cpu_trainer


class Uneven(pl.LightningModule):
    """Weights of 7 and of 1 row, which 2 and 3 ranks cannot share evenly."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()

    def configure_model(self) -> None:
        if not len(self.layers):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))
            if self.device_mesh is not None:
                fully_shard(self.layers, mesh=data_mesh(self.device_mesh))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layers(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


class Loaded(pl.Callback):
    """Writes what a resumed run begins with, gathered."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        state = {
            "state_dict": full_state(pl_module.state_dict()),
            "optimizer_states": [full_state(each.state_dict()) for each in trainer.optimizers],
        }
        if trainer.is_global_zero:
            torch.save(state, Path(trainer.default_root_dir) / "loaded.pt")


def train(
    folder: Path, steps: int, resume: Path | None = None, strategy: Any = "auto", devices: int = 1
) -> Uneven:
    """Train with the same batches on every rank, and a checkpoint after every step."""
    batches = [
        torch.randn(4, 5, generator=torch.Generator().manual_seed(step)) for step in range(steps)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    module = Uneven()
    callbacks = [RunCheckpoint(every_n_train_steps=1, keep=100), *([Loaded()] if resume else [])]
    trainer = cpu_trainer(folder, steps, callbacks, devices=devices, strategy=strategy)
    trainer.fit(module, DataLoader(batches, batch_size=None), ckpt_path=resume)
    return module


def be_killed_in_the_second(writer: Any) -> None:
    """Kill this process, as the kernel would, once it has written its part of a second one."""
    write, count = writer.write_data, 0

    def write_and_die(*args: Any, **options: Any) -> Any:
        nonlocal count
        result, count = write(*args, **options), count + 1
        if count == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    writer.write_data = write_and_die


if __name__ == "__main__":
    torch.set_num_threads(1)
    task = json.loads(sys.argv[1])
    if task["kill"] and os.environ.get("LOCAL_RANK", "0") == "0":
        be_killed_in_the_second(FileSystemWriter)
    resume = task["resume"]
    strategy = FullySharded(**task["strategy"])
    train(
        Path(task["folder"]),
        task["steps"],
        Path(resume) if resume else None,
        strategy,
        task["devices"],
    )
