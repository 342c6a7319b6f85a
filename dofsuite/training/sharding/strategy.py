"""FSDP2 as a Lightning strategy: parameters, gradients and optimizer state sharded across ranks.

The module shards its own weights in `configure_model`, over the mesh
`self.device_mesh["data_parallel"]`; this strategy saves and loads them (sharded: DTensors; full:
plain tensors). In an experiment it is `trainer.strategy: fsdp2`.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

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
    """Shard over all ranks; write the same checkpoint as any other strategy.

    Lightning's own strategy writes a folder file by file, which a crash can leave half written, or
    one file in which the optimizer state has other names than elsewhere; and it steps an optimizer
    that has not stepped yet, to have state to save, which Adam remembers. Here rank 0 writes one
    file of full tensors, through the trainer's checkpoint plugin, so that a run can resume with
    another world size, with DDP or on one device.
    """

    def __init__(
        self,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        """Shard over all ranks.

        Args:
            process_group_backend: nccl or gloo; null chooses by the device.
            timeout: Of collectives.
        """
        super().__init__("auto", 1, False, process_group_backend, timeout)

    def setup_environment(self) -> None:
        """One data-parallel mesh dimension over all ranks."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Check that the module has sharded its weights; otherwise each rank would train its own.

        Raises:
            UserError: It has not.
        """
        assert self.lightning_module is not None
        if not any(isinstance(weight, DTensor) for weight in self.lightning_module.parameters()):
            name = type(self.lightning_module).__name__
            raise UserError(
                f"trainer.strategy: {name} does not shard its weights over ranks; choose ddp."
            )
        super().setup(trainer)

    # --- saving ---

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the sharded state: what `on_save_checkpoint` drops is never gathered."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the sharded state, with the names of other strategies; empty before a step."""
        return Strategy.optimizer_state(self, optimizer)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Gather full tensors one by one; rank 0 writes."""
        checkpoint = full_state(checkpoint, keep=self.is_global_zero)
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    # --- loading ---

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Open a checkpoint memory-mapped; each rank reads only its shard."""
        if isinstance(self.checkpoint_io, AtomicCheckpointIO):
            return self.checkpoint_io.load_checkpoint(checkpoint_path, mmap=True)
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module = self.lightning_module
        assert module is not None
        sharded = module.state_dict()
        state = {
            name: shard_like(value, sharded.get(name))
            for name, value in checkpoint["state_dict"].items()
        }
        module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            # The checkpoint numbers parameters in the order of the optimizer's own.
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            weight_of = dict(zip(numbers, weights, strict=True))

            # Shard each entry (exp_avg, ...) as its parameter is.
            sharded = {}
            for number, entries in state["state"].items():
                weight = weight_of[number]
                sharded[number] = {k: shard_like(value, weight) for k, value in entries.items()}
            optimizer.load_state_dict({**state, "state": sharded})
            _optimizer_to_device(optimizer, self.root_device)


def full_state(node: Any, keep: bool = True) -> Any:
    """Return nested values with each DTensor gathered to the CPU.

    Collective: must be called on all ranks, with the same structure.

    Args:
        node: Dicts, lists and tuples of anything.
        keep: Whether this rank wants the tensors; None replaces them otherwise.
    """
    if isinstance(node, DTensor):
        full = cast(DTensor, node.detach()).full_tensor()
        return full.cpu() if keep else None
    if isinstance(node, Mapping):
        return {key: full_state(value, keep) for key, value in node.items()}
    if type(node) in (list, tuple):
        return type(node)(full_state(value, keep) for value in node)
    return node


def shard_like(value: Any, like: Any) -> Any:
    """Shard a full tensor as `like` is, without communication; other values are returned as is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


StrategyRegistry.register(
    "fsdp2", FullySharded, description="FSDP2, with the checkpoints of other strategies"
)
