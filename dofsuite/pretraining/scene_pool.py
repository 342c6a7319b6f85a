"""`ScenePool`: random scenes drawn once, kept in memory, and given out in an order that resumes."""

import os
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.nn.functional import avg_pool2d
from tqdm import tqdm

from dofsuite.data import Batch
from dofsuite.data.dataset import BatchLoader, HeldOutSamples, collate_or_error
from dofsuite.data.sampler import permutation
from dofsuite.data.samples_seen import SamplesSeen
from dofsuite.data.shards import ShardReader
from dofsuite.data.synthetic.random_scenes import random_scene
from dofsuite.data.synthetic.sets import prepare, resolve
from dofsuite.errors import UserError
from dofsuite.files import cache_folder, write_bytes

# Scenes are drawn at twice the size and reduced: their photographs are sharp at their pixels.
REDUCTION = 2
# Of what a pool's file holds; a change of the scenes needs another.
POOL_VERSION = "scene-pool-1"
CHUNK = 64


def pooled_batch(planes: Tensor, index: Tensor) -> Batch:
    """Return drawn scenes, [b, 5, size, size] in [0, 1], at their positions in the run."""
    count, missing = len(planes), torch.full((len(planes),), torch.nan)
    # A batch of synthetic scenes has no EXIF, captions or side-cars.
    return Batch(
        image_srgb=planes[:, :3],
        disparity=planes[:, 3:4],
        given_disparity=planes[:, 4:],
        has_depth=torch.ones(count, dtype=torch.bool),
        source=torch.zeros(count, dtype=torch.long),
        index=index,
        key=[f"scene{position:09d}" for position in index.tolist()],
        width_px=torch.full((count,), float(planes.shape[-1])),
        valid=torch.ones_like(planes[:, 3:4], dtype=torch.bool),
        caption=[""] * count,
        f_number=missing,
        focal_length_mm=missing,
        sensor_width_mm=missing,
        prompt_tokens=torch.zeros(count, 0, 0),
        prompt_pooled=torch.zeros(count, 0),
    )


def drawn_scene(seed: int, number: int, size_px: int) -> Tensor:
    """Return a scene as uint8 [5, size, size]: red, green, blue, exact and given disparity."""
    scene = random_scene(seed, number, REDUCTION * size_px)
    planes = [
        avg_pool2d(scene.all_in_focus, REDUCTION),
        scene.disparity[:, ::REDUCTION, ::REDUCTION],  # no mean of two depths
        avg_pool2d(scene.given_disparity, REDUCTION),
    ]
    return (torch.cat(planes).clamp(0, 1) * 255).round().to(torch.uint8)


class Chunk(NamedTuple):
    """Scenes `first` to `first + length` - 1, drawn by one process."""

    seed: int
    first: int
    length: int
    size_px: int

    def draw(self) -> bytes:
        numbers = range(self.first, self.first + self.length)
        scenes = [drawn_scene(self.seed, number, self.size_px) for number in numbers]
        return torch.stack(scenes).numpy().tobytes()


def draw_pool(seed: int, count: int, size_px: int, processes: int) -> Tensor:
    """Draw scenes 0 to `count` - 1 in several processes, uint8 [count, 5, size, size]."""
    chunks = [
        Chunk(seed, first, min(CHUNK, count - first), size_px) for first in range(0, count, CHUNK)
    ]
    progress = tqdm(total=count, desc="scenes", unit="scene", disable=None)
    pool = torch.empty(count, 5, size_px, size_px, dtype=torch.uint8)
    # Started anew, not forked: this process may have a GPU and threads.
    with get_context("spawn").Pool(processes) as workers:
        drawn: Iterator[bytes] = workers.imap(Chunk.draw, chunks)
        for chunk, data in zip(chunks, drawn, strict=True):
            flat = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            shape = (chunk.length, 5, size_px, size_px)
            pool[chunk.first : chunk.first + chunk.length] = flat.view(shape)
            progress.update(chunk.length)
    progress.close()
    return pool


class ScenePool(LightningDataModule):
    """Random scenes in the memory of the training device; validation has held-out shards.

    They are drawn once for a seed, a count and a size, and kept in the cache folder. One process
    trains: the pool is not shared between ranks.
    """

    def __init__(
        self,
        scenes: int = 40_000,
        batch_size: int = 512,
        size_px: int = 64,
        val: str = "synthetic:val",
        val_batch_size: int = 32,
        seed: int = 0,
        processes: int | None = None,
    ) -> None:
        """Configure the pool; nothing is drawn yet.

        Args:
            scenes: Scenes of the pool (*ours*); 64 px ones take 20 kB each.
            batch_size: Batch size.
            size_px: Side of a scene.
            val: Held-out shards, for example `synthetic:val`.
            val_batch_size: Batch size in validation.
            seed: Determines the scenes and their order.
            processes: That draw the scenes; null is one a core.
        """
        super().__init__()
        for key, value, least in (
            ("scenes", scenes, 1),
            ("batch_size", batch_size, 1),
            ("size_px", size_px, 16),
            ("processes", 1 if processes is None else processes, 1),
        ):
            if value < least:
                raise UserError(f"data.{key}: it must be at least {least}, not {value}.")
        if scenes < batch_size:
            raise UserError(f"data.scenes: {scenes} are fewer than a batch of {batch_size}.")
        self.scenes, self.batch_size = scenes, batch_size
        self.size_px = size_px
        self.seed, self.processes = seed, processes or os.cpu_count() or 1
        self.val, self.val_batch_size = val, val_batch_size
        self.samples_seen = 0
        self.pool: Tensor | None = None

    @property
    def file(self) -> Path:
        name = f"{self.seed}-{self.scenes}-{self.size_px}.pt"
        return cache_folder() / POOL_VERSION / name

    def prepare_data(self) -> None:
        """Draw the pool unless it lies in the cache folder, and write the held-out shards."""
        prepare(self.val)
        if not self.file.is_file():
            pool = draw_pool(self.seed, self.scenes, self.size_px, self.processes)
            write_bytes(self.file, pool.numpy().tobytes())

    def setup(self, stage: str | None = None) -> None:
        """Read the pool, and count samples: under a new trainer `samples_seen` starts at 0."""
        data = bytearray(self.file.read_bytes())
        self.pool = torch.frombuffer(data, dtype=torch.uint8).view(
            self.scenes, 5, self.size_px, self.size_px
        )
        if stage != "fit" or self.trainer is None:
            return
        trainer: Any = self.trainer
        if trainer.world_size > 1:
            raise UserError("trainer.devices: a pool of scenes is not shared: use one.")
        if not any(
            isinstance(callback, SamplesSeen) and callback.data is self
            for callback in trainer.callbacks
        ):
            self.samples_seen = 0
            trainer.callbacks.insert(0, SamplesSeen(self, self.batch_size))

    def train_dataloader(self) -> "PoolBatches":
        if self.pool is None:
            self.setup()
        assert self.pool is not None
        trainer: Any = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        self.pool = self.pool.to(device)
        return PoolBatches(self)

    def val_dataloader(self) -> BatchLoader:
        return BatchLoader(
            HeldOutSamples(ShardReader(resolve(self.val)), self.size_px),
            batch_size=self.val_batch_size,
            collate_fn=collate_or_error,
            generator=torch.Generator(),
        )

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        # What is of the pool lies there already; indices seed draws on the CPU.
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(index=batch.index)

    def state_dict(self) -> dict[str, Any]:
        return {"samples_seen": self.samples_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.samples_seen = int(state_dict["samples_seen"])


class PoolBatches:
    """The batches of one pass over the pool, from `samples_seen` on; each pass has its own order.

    A scene is mirrored in every second pass. The two methods of a state tell Lightning that the
    position is kept elsewhere.
    """

    def __init__(self, data: ScenePool) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.scenes // self.data.batch_size

    def __iter__(self) -> Iterator[Batch]:
        data, pool = self.data, self.data.pool
        assert pool is not None
        position = data.samples_seen
        samples_in_pass = len(self) * data.batch_size
        for _ in range(len(self)):
            which_pass, within = divmod(position, samples_in_pass)
            order = permutation(data.scenes, data.seed, which_pass)
            numbers = torch.from_numpy(order[within : within + data.batch_size])
            planes = pool[numbers.to(pool.device)].float() / 255
            planes = planes.flip(-1) if which_pass % 2 else planes
            index = torch.arange(position, position + data.batch_size)
            yield pooled_batch(planes, index)
            position += data.batch_size

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
