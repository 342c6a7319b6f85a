"""A real model and real data, as small as they can be: what the tests of `fit` train."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dofsuite.errors import UserError
from dofsuite.files import write_json
from dofsuite.training import run_folder, write_sheet


@dataclass(frozen=True)
class Schedule:
    """Numbers that are checked where they are made."""

    learning_rate: float = 0.01
    """Step size of AdamW."""
    width: int = 4
    """Hidden features."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")


class TinyModel(pl.LightningModule):
    """Two layers that learn the sum of their inputs."""

    def __init__(
        self,
        schedule: Schedule = Schedule(),
        fail_with: str | None = None,
        unsafe_state: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.unsafe_state = unsafe_state
        self.schedule = schedule
        if fail_with == "bug":
            raise AttributeError("a genuine bug")
        if fail_with == "user":
            raise UserError("weights.safetensors: no such file.")
        if fail_with == "value":
            raise ValueError("schedule and fail_with exclude each other")
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(3, schedule.width), nn.Tanh(), nn.Linear(schedule.width, 1)
        )
        for parameter in self.layers.parameters():
            nn.init.normal_(parameter, generator=generator)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = (self.layers(batch).squeeze(-1) - batch.sum(-1)).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", (self.layers(batch).squeeze(-1) - batch.sum(-1)).square().mean())

    def on_validation_end(self) -> None:
        if not self.trainer.sanity_checking:
            image = torch.full((3, 4, 4), 0.5)
            write_sheet(
                run_folder(self.trainer) / "sheets" / f"step-{self.global_step:08d}.png",
                [[image]],
                ["grey"],
            )
            write_json(run_folder(self.trainer) / "metrics.json", {"step": self.global_step})

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        if self.unsafe_state:
            checkpoint["folder"] = Path("a path is neither a tensor nor a plain value")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.schedule.learning_rate)

    def export(self, folder: Path) -> None:
        torch.save(self.layers.state_dict(), folder / "layers.pt")


class Numbers(Dataset):
    """Sample i is a function of i alone; reading one may signal or kill this process, once."""

    def __init__(
        self, size: int, signal_at: int | None, signal_name: str, group: bool, marker: Path
    ) -> None:
        self.size, self.signal_at, self.signal_name, self.signal_group = (
            size,
            signal_at,
            signal_name,
            group,
        )
        self.marker = marker

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        if index == self.signal_at and not self.marker.exists():
            self.marker.touch()
            number = getattr(signal, self.signal_name)
            os.killpg(0, number) if self.signal_group else os.kill(os.getpid(), number)
        return torch.randn(3, generator=torch.Generator().manual_seed(index))


class TinyData(pl.LightningDataModule):
    """Numbers in order, whose only state is how many were seen."""

    def __init__(
        self,
        batch_size: int = 2,
        signal_at: int | None = None,
        signal_name: str = "SIGKILL",
        signal_in_validation: bool = False,
        missing_shard: bool = False,
        num_workers: int = 0,
        signal_group: bool = False,
        poison_at: int | None = None,
    ) -> None:
        super().__init__()
        self.batch_size, self.signal_at, self.signal_name = batch_size, signal_at, signal_name
        self.signal_in_validation, self.missing_shard = signal_in_validation, missing_shard
        self.num_workers, self.signal_group, self.poison_at = num_workers, signal_group, poison_at
        self.samples_seen = 0

    def numbers(self, size: int, signalling: bool) -> Numbers:
        folder = run_folder(self.trainer)
        marker = folder.with_name(f"{folder.name}.signalled")
        return Numbers(
            size,
            self.signal_at if signalling else None,
            self.signal_name,
            self.signal_group,
            marker,
        )

    def train_dataloader(self) -> DataLoader:
        if self.missing_shard:
            raise UserError("data/train-000001.tar: the shard is missing; pack the folder again.")
        numbers = self.numbers(10_000, not self.signal_in_validation)
        order = list(range(self.samples_seen, len(numbers)))
        return DataLoader(
            numbers, batch_size=self.batch_size, sampler=order, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.numbers(4, self.signal_in_validation), batch_size=self.batch_size)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.trainer.callbacks.insert(0, SamplesSeen())

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        return (
            batch * torch.nan
            if self.poison_at is not None and self.samples_seen >= self.poison_at
            else batch
        )

    def state_dict(self) -> dict[str, int]:
        return {"samples_seen": self.samples_seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.samples_seen = state["samples_seen"]


class SamplesSeen(pl.Callback):
    """Counts before the step, so that a checkpoint written at its end holds this batch too."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        trainer.datamodule.samples_seen += trainer.datamodule.batch_size


EXPERIMENT = {
    "seed_everything": 0,
    "model": {
        "class_path": "tests.tiny_runs.TinyModel",
        "init_args": {"schedule": {"learning_rate": 0.02}},
    },
    "data": {"class_path": "tests.tiny_runs.TinyData", "init_args": {"batch_size": 2}},
    "checkpoint": {"every_n_train_steps": 10},
    "trainer": {
        "max_steps": 40,
        "accelerator": "cpu",
        "log_every_n_steps": 10,
        "check_val_every_n_epoch": None,
        "val_check_interval": 20,
    },
}
