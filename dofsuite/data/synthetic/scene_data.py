"""Random scenes, drawn while training, and the held-out photographs to validate on."""

from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dofsuite.data.sampler import PositionBatches
from dofsuite.data.samples_seen import SamplesSeen
from dofsuite.data.synthetic.photographs import photograph
from dofsuite.data.synthetic.random_scenes import RandomScene, SceneShares, random_scene
from dofsuite.errors import UserError

# What no scene is cut from.
HELD_OUT = ("coffee", "chelsea", "motorcycle_left")
# Batches that Lightning calls an epoch; the scenes never repeat.
EPOCH_BATCHES = 1000


class SceneBatch(NamedTuple):
    """A batch of scenes.

    Attributes:
        all_in_focus: [b, 3, h, w] float32 display values in [0, 1].
        disparity: [b, 1, h, w] in [0, 1], 0 far to 1 near: what blur is rendered by.
        given_disparity: [b, 1, h, w]: the same, soft or wrong: what a network is given.
        index: [b] int64: number of the scene, with which every random draw is seeded.
    """

    all_in_focus: Tensor
    disparity: Tensor
    given_disparity: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index


class RandomScenes(Dataset[tuple[RandomScene, int]]):
    """Scenes by number, without end: `scenes[n]` is a function of the seed and n alone."""

    def __init__(
        self,
        size_px: int = 128,
        seed: int = 0,
        shares: SceneShares = SceneShares(),  # noqa: B008  (frozen)
    ) -> None:
        """Choose the scenes: the side of the square, the seed of all draws, the kinds' shares."""
        self.size_px, self.seed = size_px, seed
        self.shares = shares

    def __getitem__(self, number: int) -> tuple[RandomScene, int]:
        return random_scene(self.seed, number, self.size_px, self.shares), number


def collate_scenes(items: list[tuple[RandomScene, int]]) -> SceneBatch:
    """Stack scenes and their numbers."""
    scenes = [scene for scene, _ in items]
    return SceneBatch(
        torch.stack([scene.all_in_focus for scene in scenes]),
        torch.stack([scene.disparity for scene in scenes]),
        torch.stack([scene.given_disparity for scene in scenes]),
        torch.tensor([number for _, number in items]),
    )


def held_out_crops(size_px: int) -> list[tuple[RandomScene, int]]:
    """Return the square center of each held-out photograph, as scenes without depth (0)."""
    crops = []
    for number, name in enumerate(HELD_OUT):
        values = torch.from_numpy(np.array(photograph(name))).permute(2, 0, 1) / 255
        height, width = values.shape[1:]
        side = min(size_px, height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = values[:, top : top + side, left : left + side].contiguous()
        flat = torch.zeros(1, side, side)
        crops.append((RandomScene(image, flat, flat, name), number))
    return crops


class SceneLoader(DataLoader[Any]):
    """A DataLoader whose position the data module keeps: the two methods tell Lightning so."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class RandomSceneData(LightningDataModule):
    """Random scenes in an order that resumes; batches are `SceneBatch`.

    Validation has the centers of photographs that no scene is cut from: coffee, Chelsea and the
    motorcycle.
    """

    def __init__(
        self,
        batch_size: int = 8,
        size_px: int = 128,
        shares: SceneShares = SceneShares(),  # noqa: B008  (frozen)
        num_workers: int = 0,
        seed: int = 0,
        val_size_px: int = 256,
    ) -> None:
        """Configure the data; nothing is drawn yet.

        Args:
            batch_size: Micro-batch size per rank.
            size_px: Side of a scene.
            shares: How often each kind of scene is drawn.
            num_workers: Worker processes per rank, which draw the scenes.
            seed: Determines all scenes, with their number.
            val_size_px: Largest side of a held-out crop.
        """
        super().__init__()
        for key, value, least in (
            ("batch_size", batch_size, 1),
            ("size_px", size_px, 16),
            ("num_workers", num_workers, 0),
            ("val_size_px", val_size_px, 16),
        ):
            if value < least:
                raise UserError(f"data.{key}: it must be at least {least}, not {value}.")
        self.batch_size, self.num_workers = batch_size, num_workers
        self.val_size_px = val_size_px
        self.scenes = RandomScenes(size_px, seed, shares)
        self.samples_seen = 0

    @property
    def world(self) -> tuple[int, int]:
        """`(rank, world size)`; (0, 1) without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def prepare_data(self) -> None:
        """Check that the photographs are here, before the first step."""
        photograph(HELD_OUT[0])

    def setup(self, stage: str | None = None) -> None:
        """Count samples; under a new trainer `samples_seen` starts at 0."""
        if stage != "fit" or self.trainer is None:
            return
        trainer: Any = self.trainer
        if not any(
            isinstance(callback, SamplesSeen) and callback.data is self
            for callback in trainer.callbacks
        ):
            self.samples_seen = 0
            trainer.callbacks.insert(0, SamplesSeen(self, self.batch_size * self.world[1]))

    def train_dataloader(self) -> SceneLoader:
        """Return the batches of this rank from `samples_seen` on."""
        # An epoch is a whole number of optimizer steps
        accumulated = self.trainer.accumulate_grad_batches if self.trainer else 1
        batches = -(-EPOCH_BATCHES // accumulated) * accumulated
        order = PositionBatches(self.batch_size, batches, lambda: self.samples_seen, *self.world)
        return SceneLoader(
            self.scenes,
            batch_sampler=order,
            collate_fn=collate_scenes,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),
        )

    def val_dataloader(self) -> SceneLoader:
        """Return one batch a held-out photograph; a rank has every `world`-th."""
        rank, world = self.world
        crops = held_out_crops(self.val_size_px)[rank::world]
        return SceneLoader(crops, batch_size=1, collate_fn=collate_scenes)  # type: ignore[arg-type]

    def transfer_batch_to_device(
        self, batch: SceneBatch, device: torch.device, dataloader_idx: int
    ) -> SceneBatch:
        # The indices stay: they seed draws, which are made on the CPU.
        moved: SceneBatch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(index=batch.index)

    def state_dict(self) -> dict[str, Any]:
        return {"samples_seen": self.samples_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.samples_seen = int(state_dict["samples_seen"])
