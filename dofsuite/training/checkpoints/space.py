"""What a run's checkpoints take on disk, and what is free there."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dofsuite.files import free_bytes
from dofsuite.training.checkpoints.resume import checkpoints_of


@dataclass(frozen=True)
class CheckpointSpace:
    """Bytes on the disk of a run folder."""

    # One checkpoint.
    checkpoint: int
    # All that a run holds at once, less what its folder holds already.
    needed: int
    free: int

    @property
    def fits(self) -> bool:
        return self.needed <= self.free


def checkpoint_space(
    folder: Path,
    trained: Iterable[Tensor],
    averaged: Iterable[Tensor] = (),
    keep: int = 2,
    moments: float = 2,
) -> CheckpointSpace:
    """Return what the checkpoints of a run will take; no weights are read (meta tensors will do).

    Args:
        folder: The run folder, which need not exist.
        trained: Weights that are trained, which lie in a checkpoint with their optimizer's state.
        averaged: Weights of an average of them.
        keep: How many checkpoints are kept; while one is written there is one more.
        moments: Float32 numbers that the optimizer keeps for each weight: 2 for AdamW.
    """
    checkpoint = round((1 + moments) * bytes_of(trained)) + bytes_of(averaged)
    there = sum(_size(path) for path in checkpoints_of(folder))
    needed = max(0, (keep + 1) * checkpoint - there)
    return CheckpointSpace(checkpoint, needed, free_bytes(folder))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
