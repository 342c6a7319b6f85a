"""FSDP2 as a Lightning strategy: parameters, gradients and optimizer state sharded across ranks.

The module shards its own weights in `configure_model`, over the mesh
`self.device_mesh["data_parallel"]`; this strategy saves and loads them (sharded: DTensors; full:
plain tensors). In an experiment it is `trainer.strategy: fsdp2`.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning_fabric.utilities.optimizer import _optimizer_to_device
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

from dofsuite.errors import UserError
from dofsuite.training.checkpoints.io import AtomicCheckpointIO
from dofsuite.training.checkpoints.sharded import ShardedWriter, Stored, placed, read_into
from dofsuite.training.sharding.fsdp import REPLICAS, SHARDS


class FullySharded(ModelParallelStrategy):
    """Shard over all ranks or in each node; write checkpoints that any strategy can read.

    Lightning's own strategy writes a folder file by file, which a crash can leave half written, or
    one file in which the optimizer state has other names than elsewhere; and it steps an optimizer
    that has not stepped yet, to have state to save, which Adam remembers. Here rank 0 writes one
    file of full tensors, through the trainer's checkpoint plugin, or each rank writes its part
    (`dofsuite.training.checkpoints.sharded`). A run can resume from either with another world size,
    with DDP or on one device.
    """

    def __init__(
        self,
        process_group_backend: str | None = None,
        timeout_minutes: float = 60,
        checkpoints: Literal["whole", "sharded", "sharded_async"] = "whole",
        replicas: int = 1,
    ) -> None:
        """Choose how to shard and to save.

        Args:
            process_group_backend: nccl or gloo; null chooses by the device.
            timeout_minutes: How long a rank waits for the others before the run ends (*ours*: 60;
                Lightning's 30 are less than what rank 0 needs to write 63 GB at 30 MB/s).
            checkpoints: `whole`: rank 0 gathers and writes one file, and the others wait.
                `sharded`: each rank writes its part of a folder. `sharded_async`: the same, while
                training goes on from a copy in host memory (*ours*).
            replicas: Copies of the sharded weights; 1 shards over all ranks. The number of nodes
                shards in each node, so that weights are gathered inside nodes and only gradients
                cross them, for as many times the memory (DMD2: shards of 4 ranks).
        """
        if timeout_minutes <= 0 or replicas < 1:
            raise ValueError("timeout_minutes must be above 0, replicas 1 or more")
        timeout = timedelta(minutes=timeout_minutes)
        super().__init__("auto", 1, False, process_group_backend, timeout)
        self.checkpoints, self.replicas = checkpoints, replicas
        self._writer = ShardedWriter(timeout)

    def setup_environment(self) -> None:
        """One mesh dimension over all ranks, or one over replicas and one over their shards.

        Raises:
            UserError: The ranks cannot be dealt to that many replicas.
        """
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
        if self.replicas == 1:
            return
        shards, rest = divmod(self.world_size, self.replicas)
        if rest:
            raise UserError(
                f"trainer.strategy.replicas: {self.world_size} ranks cannot be dealt to "
                f"{self.replicas} replicas; give a divisor."
            )
        shape, names = (self.replicas, shards), (REPLICAS, SHARDS)
        mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=names)
        mesh[names]._flatten("data_parallel")
        assert self.lightning_module is not None
        self._device_mesh = self.lightning_module._device_mesh = mesh

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
        """Gather full tensors one by one, of which rank 0 writes a file; or write in parts."""
        if self.checkpoints == "whole":
            checkpoint = full_state(checkpoint, keep=self.is_global_zero)
            Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)
        else:
            in_background = self.checkpoints == "sharded_async"
            self._writer.write(checkpoint, Path(filepath), in_background=in_background)

    def finish_saving(self) -> None:
        """Wait for the checkpoint that is being written in the background.

        Raises:
            UserError: It could not be written.
        """
        self._writer.finish()

    def teardown(self) -> None:
        """Let a checkpoint that is being written be finished, also where an error ends the run."""
        self.finish_saving()
        super().teardown()

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
        state = shards_like(
            checkpoint["state_dict"], {name: sharded.get(name) for name in checkpoint["state_dict"]}
        )
        module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            # The checkpoint numbers parameters in the order of the optimizer's own.
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            weight_of = dict(zip(numbers, weights, strict=True))

            # Shard each entry (exp_avg, ...) as its parameter is.
            entries = {
                (number, name): value
                for number, values in state["state"].items()
                for name, value in values.items()
            }
            sharded: dict[Any, dict[str, Any]] = {number: {} for number in state["state"]}
            like = {key: weight_of[key[0]] for key in entries}
            for (number, name), value in shards_like(entries, like).items():
                sharded[number][name] = value
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


def shards_like(values: Mapping[Any, Any], like: Mapping[Any, Any]) -> dict[Any, Any]:
    """Shard full or stored tensors as those of the same keys in `like` are; without communication.

    Each rank takes its part of a full tensor, or reads it. Other values are returned as they are.
    """
    pairs: list[tuple[Stored, Tensor]] = []
    sharded = {
        key: placed(value, like[key], pairs)
        if isinstance(value, Stored)
        else shard_like(value, like[key])
        for key, value in values.items()
    }
    read_into(pairs)
    return sharded


def shard_like(value: Any, like: Any) -> Any:
    """Shard a full tensor as `like` is, without communication; other values are returned as is."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


StrategyRegistry.register(
    "fsdp2", FullySharded, description="FSDP2, with the checkpoints of other strategies"
)
