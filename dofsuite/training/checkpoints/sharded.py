"""Sharded checkpoints: every rank writes its part, and training goes on meanwhile.

Such a checkpoint is a folder in the format of torch.distributed.checkpoint. Its `rest.ckpt` is a
checkpoint like one in a single file, with a meta tensor in place of each sharded one. The folder
has a hidden name until all ranks have written: a run that is killed before leaves none that could
be taken for whole. It can be read with any number of ranks.
"""

import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.tensor import DTensor

from dofsuite.files import as_user_error, flush_folder, make_folder, temp_sibling, write_bytes

REST = "rest.ckpt"
# What the index of torch's format may consist of: its pickle could otherwise run any code.
INDEX_CLASSES = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", "float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8"},
    "pathlib": {"PosixPath", "WindowsPath", "Path"},
}


@dataclass(frozen=True)
class Stored:
    """A tensor of a sharded checkpoint that has not been read."""

    folder: Path
    key: str
    shape: torch.Size
    dtype: torch.dtype


class ShardedWriter:
    """Writes sharded checkpoints, one at a time, in the background or not. Collective."""

    def __init__(self, timeout: timedelta) -> None:
        """Give the longest time that ranks may wait for each other's parts."""
        self.timeout = timeout
        self._group: distributed.ProcessGroup | None = None
        self._path = Path()
        self._pending: Any = None

    def write(self, checkpoint: dict[str, Any], path: Path, *, in_background: bool) -> None:
        """Write `checkpoint`, of which the DTensors are sharded, to the folder `path`.

        Returns once all is copied to host memory, or on disk unless `in_background`.

        Raises:
            UserError: This or the checkpoint before could not be written.
        """
        self.finish()
        # Sharded tensors, and everything else in one small file of the first rank.
        sharded: dict[str, Tensor] = {}
        content = io.BytesIO()
        torch.save(_mapped(checkpoint, lambda key, value: _set_aside(key, value, sharded)), content)
        if distributed.get_rank() == 0:
            _remove_partial(make_folder(path.parent))

        # The ranks' agreement in the background has a process group of its own, on the CPU.
        if self._group is None:
            self._group = distributed.new_group(backend="gloo", timeout=self.timeout)
        self._path = path
        self._pending = dcp.async_save(
            sharded,
            storage_writer=_FolderWriter(path, content.getvalue()),
            process_group=self._group,
        )
        if not in_background:
            self.finish()

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            UserError: The disk is full or the folder cannot be written; earlier checkpoints are
                unchanged.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except CheckpointException as error:
            if distributed.get_rank() == 0:
                _remove_partial(self._path.parent)
            with as_user_error(self._path):
                for reason, _ in error.failures.values():
                    if isinstance(reason, OSError):
                        raise reason from error
            raise


class _FolderWriter(dcp.FileSystemWriter):
    """Gives the folder its name in `finish`, which the first rank runs when all have written."""

    def __init__(self, path: Path, rest: bytes) -> None:
        super().__init__(_partial(path))
        self._folder, self._rest = path, rest

    def finish(self, metadata: Metadata, results: Any) -> None:
        partial = _partial(self._folder)
        write_bytes(partial / REST, self._rest)
        super().finish(metadata, results)
        flush_folder(partial)
        remove(self._folder)
        os.replace(partial, self._folder)
        flush_folder(self._folder.parent)


class _SafeReader(dcp.FileSystemReader):
    """Reads the index without running code of others (torch unpickles it freely)."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        metadata = read_index(Path(self.path))
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _IndexUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in INDEX_CLASSES.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint's index")
        return super().find_class(module, name)


def read_index(folder: Path) -> Metadata:
    """Read where each part of each tensor lies.

    Raises:
        pickle.UnpicklingError: It holds anything else.
    """
    with open(folder / ".metadata", "rb") as file:
        return _IndexUnpickler(file).load()


def with_stored(rest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content of `rest.ckpt` with a `Stored` in place of each meta tensor."""
    return _mapped(
        rest,
        lambda key, value: (
            Stored(folder, key, value.shape, value.dtype) if value.is_meta else value
        ),
    )


def with_tensors(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with each `Stored` read whole, into host memory."""
    pairs: list[tuple[Stored, Tensor]] = []

    def place(key: str, value: Tensor | Stored) -> Tensor:
        return placed(value, None, pairs) if isinstance(value, Stored) else value

    checkpoint = _mapped(checkpoint, place)
    read_into(pairs)
    return checkpoint


def placed(value: Stored, like: Any, pairs: list[tuple[Stored, Tensor]]) -> Tensor:
    """Return an empty tensor for a stored one, sharded as `like` is, and note the pair to read."""
    if isinstance(like, DTensor) and like.shape == value.shape:
        tensor: Tensor = torch.empty_like(like, dtype=value.dtype)
    else:
        tensor = torch.empty(value.shape, dtype=value.dtype, device="cpu")
    pairs.append((value, tensor))
    return tensor


def read_into(pairs: Iterable[tuple[Stored, Tensor]]) -> None:
    """Fill tensors from a checkpoint: each rank reads its part, without the others."""
    by_folder: dict[Path, dict[str, Tensor]] = {}
    for stored, tensor in pairs:
        by_folder.setdefault(stored.folder, {})[stored.key] = tensor
    for folder, tensors in by_folder.items():
        dcp.load(tensors, storage_reader=_SafeReader(folder), no_dist=True)


def damage_of_parts(folder: Path) -> str | None:
    """Return which part of a sharded checkpoint is missing or cut, or None."""
    try:
        parts = read_index(folder).storage_data.values()
    except Exception as error:  # a pickle raises what its damage makes of it
        return f"index: {str(error) or type(error).__name__}"
    size: dict[str, int] = {}
    for part in parts:
        size[part.relative_path] = max(size.get(part.relative_path, 0), part.offset + part.length)
    for name, wanted in sorted(size.items()):
        file = folder / name
        if not file.is_file() or file.stat().st_size < wanted:
            return f"{name} is missing or cut"
    return None


def remove(path: Path) -> None:
    """Remove a checkpoint, a file or a folder, so that half of it is never found."""
    if path.is_dir():
        hidden = temp_sibling(path, "old")
        os.replace(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _remove_partial(folder: Path) -> None:
    for path in folder.glob(".*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def _set_aside(key: str, value: Tensor, sharded: dict[str, Tensor]) -> Tensor:
    if not isinstance(value, DTensor):
        return value
    sharded[key] = value.detach()
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


def _mapped(node: Any, function: Callable[[str, Any], Any], key: str = "") -> Any:
    """Return nested values with each tensor, stored or not, replaced by `function(key, tensor)`."""
    if isinstance(node, Tensor | Stored):
        return function(key, node)
    if isinstance(node, Mapping):
        return {name: _mapped(value, function, f"{key}/{name}") for name, value in node.items()}
    if type(node) in (list, tuple):
        return type(node)(_mapped(each, function, f"{key}/{i}") for i, each in enumerate(node))
    return node
