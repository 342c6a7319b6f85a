"""Checkpoints on disk: written atomically, read without unpickling code."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO

from dofsuite.errors import UserError
from dofsuite.files import write_atomic
from dofsuite.training.checkpoints.sharded import (
    REST,
    damage_of_parts,
    remove,
    with_stored,
    with_tensors,
)


class AtomicCheckpointIO(CheckpointIO):
    """Writes a checkpoint under a temporary name, flushes it, and renames it to the final name.

    It streams to the file (Lightning's default builds the whole file in memory first), and reads
    with `weights_only=True` always: a checkpoint holds tensors and plain values, never code.
    """

    def __init__(self, on_load: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        """Read and write checkpoints.

        Args:
            on_load: Changes a checkpoint after it is read, as `continue_from` does.
        """
        super().__init__()
        self.on_load = on_load

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save `checkpoint` at `path`.

        Raises:
            UserError: The disk is full or the folder cannot be written; an older file at `path` is
                then unchanged.
        """
        write_atomic(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,
        *,
        mmap: bool = False,
    ) -> dict:
        """Load the checkpoint at `path` into CPU memory; with `mmap` its tensors stay on disk.

        A sharded one (a folder) is read whole, or with `mmap` has a `Stored` for each tensor.

        Lightning's `map_location` and `weights_only` are not used.

        Raises:
            UserError: The file is missing, truncated, or holds something else than tensors and
                plain values.
        """
        checkpoint = read_checkpoint(Path(path), mmap=mmap)
        return checkpoint if self.on_load is None else self.on_load(checkpoint)

    def remove_checkpoint(self, path: str | Path) -> None:
        remove(Path(path))


def read_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint, whole or sharded; with `mmap` its tensors stay on disk until used.

    Raises:
        UserError: The file is missing, truncated, or holds anything but tensors and plain values.
    """
    # In parts.
    if path.is_dir():
        if (damage := damage_of_parts(path)) is not None:
            raise UserError(f"{path}: the checkpoint is damaged ({damage}).")
        checkpoint = with_stored(read_checkpoint(path / REST), path)
        return checkpoint if mmap else with_tensors(checkpoint)
    # As one file.
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: the checkpoint holds something else than tensors and plain values."
        ) from error
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        reason = (str(error) or type(error).__name__).splitlines()[0].removesuffix(".")
        raise UserError(f"{path}: the checkpoint is damaged ({reason}).") from error
