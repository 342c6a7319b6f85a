"""FSDP2 as a Lightning strategy: each rank holds a share of the weights, gradients and moments.

Convention: "whole" is a plain tensor, "dealt" a DTensor of which each rank holds its share. The
module deals its own weights in `configure_model`, over the mesh
`self.device_mesh["data_parallel"]`; this strategy saves and loads them. In an experiment it is
`trainer.strategy: fsdp2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.optimizer import _optimizer_to_device
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from torch import Tensor
from torch.distributed.constants import default_pg_timeout
from torch.distributed.tensor import DTensor, distribute_tensor

from dofsuite.errors import UserError
from dofsuite.training.checkpoints.io import AtomicCheckpointIO


class FullySharded(ModelParallelStrategy):
    """Deal over all ranks; write the checkpoint that any other strategy would write.

    Lightning's own strategy writes a folder file by file, which a crash can leave half written, or
    one file in which the moments have other names than elsewhere; and it steps an optimiser that
    has not stepped yet, to have moments to save, which Adam remembers. Here the first rank writes
    one file of whole tensors, through the trainer's checkpoint plugin, so that a run goes on with
    another number of ranks, with DDP or on one device too.
    """

    def __init__(
        self,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        """Deal over all ranks.

        Args:
            process_group_backend: How ranks talk; null chooses by the device (nccl or gloo).
            timeout: How long a rank waits for another.
        """
        super().__init__("auto", 1, False, process_group_backend, timeout)

    def setup_environment(self) -> None:
        """Lay all ranks out as one row of the mesh."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Take the module, whose weights must be dealt by now.

        Raises:
            UserError: They are not, so each rank would train weights of its own.
        """
        if not any(isinstance(weight, DTensor) for weight in self.lightning_module.parameters()):
            name = type(self.lightning_module).__name__
            raise UserError(
                f"trainer.strategy: {name} does not deal its weights over ranks; choose ddp."
            )
        super().setup(trainer)

    # --- saving ---

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the module's state, still dealt: what the module then leaves out is never sent."""
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return an optimiser's state, still dealt, under the names of every other strategy; empty before a step."""
        return Strategy.optimizer_state(self, optimizer)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Bring the shares together, tensor by tensor, and let the first rank write."""
        together = whole(checkpoint, keep=self.is_global_zero)
        Strategy.save_checkpoint(self, together, filepath, storage_options)

    # --- loading ---

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning asks for `load_optimizer_state_dict`."""
        return True

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Open a checkpoint; its tensors stay on the disk until a rank takes its share."""
        if isinstance(self.checkpoint_io, AtomicCheckpointIO):
            return self.checkpoint_io.load_checkpoint(checkpoint_path, mmap=True)
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this rank's share of the weights."""
        module = self.lightning_module
        places = module.state_dict()
        state = {
            name: shard_like(value, places.get(name))
            for name, value in checkpoint["state_dict"].items()
        }
        module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this rank's share of the moments."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            weight_of = dict(zip(numbers, weights, strict=True))
            moments = {
                number: {
                    name: shard_like(value, weight_of[number]) for name, value in values.items()
                }
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": moments})
            _optimizer_to_device(optimizer, self.root_device)


def whole(node: Any, keep: bool = True) -> Any:
    """Return nested values with each dealt tensor whole on the CPU; every rank must ask, in the same order.

    Args:
        node: Dicts, lists and tuples of anything.
        keep: Whether this rank wants the tensors; where not, None stands for them, and its memory
            never holds them.
    """
    if isinstance(node, DTensor):
        together = node.detach().full_tensor()
        return together.cpu() if keep else None
    if isinstance(node, Mapping):
        return {key: whole(value, keep) for key, value in node.items()}
    if type(node) in (list, tuple):
        return type(node)(whole(value, keep) for value in node)
    return node


def shard_like(value: Any, like: Any) -> Any:
    """Deal a whole tensor as `like` is dealt, without a word to the other ranks; what does not fit stays as it is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


StrategyRegistry.register(
    "fsdp2", FullySharded, description="FSDP2, with the checkpoints of other strategies"
)
