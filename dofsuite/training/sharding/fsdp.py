"""FSDP2 for alternately trained networks: parameters, gradients and optimizer state are sharded.

Convention: a "root" is a network that is called as one (generator, fake score, discriminator,
teacher, focus predictor); it and its large parts are FSDP modules, whose weights a rank gathers
before use and reshards after. The frozen depth, saliency and codec stay on every rank.

What torch's `fully_shard` does lazily, and what is done here about it:

- FSDP2 fixes the reduce dtype at a root's first forward, from the parameters that require grad at
  that moment. That forward may come in a step that freezes the root, and its own step would fail.
  So lazy init is triggered for each root while all trained parameters require grad.
- It keeps a root's own weights gathered after a forward until the next backward. Forwards without
  gradient have no backward. So roots reshard after forward, as other FSDP modules do.
- Ranks gather together, so all must call a network equally often. In validation they may have
  different numbers of prompts; during it, each holds unsharded networks (`unshard`).
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

Network = TypeVar("Network", bound=nn.Module)
ROOTS = ("generator", "critic", "teacher", "discriminator", "focus")
IN_FLOAT32 = ("discriminator", "focus")
# Mesh dimensions where weights are sharded in each of several replicas.
REPLICAS, SHARDS = "replicas", "shards"


def data_mesh(mesh: DeviceMesh) -> DeviceMesh:
    """Return what to shard over: one row of ranks, or (replicas, shards)."""
    names = mesh.mesh_dim_names or ()
    return mesh[REPLICAS, SHARDS] if REPLICAS in names else mesh["data_parallel"]


def shard_networks(
    networks: nn.Module, ema_generator: nn.Module | None, mesh: DeviceMesh, precision: str
) -> dict[str, nn.Module]:
    """Shard the trained networks and the teacher over the data-parallel mesh, in place.

    Args:
        networks: `Networks`, of which all that the run ever trains requires grad now. A root that
            was built on the meta device gets its weights from the network that `networks.loaded`
            has under its name, which is then let go.
        ema_generator: The EMA of the generator.
        mesh: Of `data_mesh`.
        precision: The trainer's. With `bf16-mixed` the three UNets are gathered in bfloat16 and
            their gradients reduced in float32: half the traffic, and autocast, which would keep its
            copy of each gathered weight until the step ends, finds nothing to cast. Compared with
            DDP this also rounds the norms' weights (*ours*).

    Returns:
        Each root's name with a copy of it on the meta device, to be filled by `gather_to_cpu`.
    """
    mixed = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    unet_policy = mixed if precision == "bf16-mixed" else MixedPrecisionPolicy()
    roots = {name: getattr(networks, name) for name in ROOTS if getattr(networks, name) is not None}
    meta_networks = {name: meta_copy(root) for name, root in roots.items()}
    loaded = cast("dict[str, nn.Module]", getattr(networks, "loaded", {}))
    for name, root in roots.items():
        shard(root, mesh, MixedPrecisionPolicy() if name in IN_FLOAT32 else unet_policy)
        deal(root, loaded.get(name), mesh)
        lazy_init(root)
    if ema_generator is not None:
        average = cast(nn.Module, ema_generator.module)
        shard(average, mesh, MixedPrecisionPolicy())
        deal(average, loaded.get("generator"), mesh)
    loaded.clear()
    return meta_networks


def shard(root: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    """Make a network's attentions, its blocks and the rest FSDP modules, from the inside out."""
    blocks = [*getattr(root, "down_blocks", []), *getattr(root, "up_blocks", [])]
    blocks += [root.mid_block] if hasattr(root, "mid_block") else []
    attentions = [attention for block in blocks for attention in getattr(block, "attentions", [])]
    for module in (*attentions, *blocks, root):
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def deal(root: nn.Module, loaded: nn.Module | None, mesh: DeviceMesh) -> None:
    """Give a sharded network that was built on the meta device its part of a loaded one's weights.

    One tensor is cut at a time: a rank never holds a second whole copy in memory. (A float32 file
    of safetensors is not even loaded once: its weights are mapped, and ranks of a node share them.)
    """
    names = [name for name, value in named_values(root).items() if value.is_meta]
    if not names or loaded is None:
        return
    root._apply(
        lambda value: torch.empty_like(value, device=mesh.device_type) if value.is_meta else value
    )
    targets, values = named_values(root), named_values(loaded)
    for name in names:
        target, value = targets[name].detach(), values[name].detach()
        if isinstance(target, DTensor):
            part = distribute_tensor(value, mesh, target.placements, src_data_rank=None)
            target.to_local().copy_(part.to_local())
        else:
            target.copy_(value)


def lazy_init(root: nn.Module) -> None:
    """Trigger FSDP2's lazy init by an empty forward while all trained parameters require grad."""
    root.forward = lambda: None
    try:
        root()
    finally:
        del root.forward


@contextmanager
def no_sync(roots: Sequence[Any]) -> Iterator[None]:
    """Accumulate unsharded gradients locally; the next backward outside reduces them."""
    for root in roots:
        root.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        for root in roots:
            root.set_requires_gradient_sync(True)


def full(value: Tensor) -> Tensor:
    """Return a tensor whole, for example a sharded network's gradient norm. Collective."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def unshard(root: nn.Module | None, unsharded: bool) -> None:
    """Unshard a network until called with False. Collective; to be called outside forwards."""
    for module in fsdp_modules(root):
        module.set_reshard_after_forward(not unsharded, recurse=False)
        module.unshard() if unsharded else module.reshard()


def fsdp_modules(root: nn.Module | None) -> list[FSDPModule]:
    """Return the FSDP modules of a network; none where it is not sharded."""
    modules = [] if root is None else root.modules()
    return [module for module in modules if isinstance(module, FSDPModule)]


def meta_copy(network: Network) -> Network:
    """Copy a network without its weights, to the meta device."""
    values = named_values(network)
    return with_values(network, {name: value.detach().to("meta") for name, value in values.items()})


def gather_to_cpu(
    network: nn.Module, meta_network: nn.Module, dtype: torch.dtype | None, keep: bool
) -> nn.Module | None:
    """Copy a network to the CPU with its full state, one tensor at a time.

    Collective: must be called on all ranks; those that do not keep the copy get None.

    Args:
        network: The network, sharded or not.
        meta_network: Its copy from before it was sharded, or itself.
        dtype: Of the copy's floating-point values; None keeps theirs.
        keep: Whether this rank wants the copy.
    """
    state = {}
    for name, value in named_values(network).items():
        gathered = full(value.detach())
        if keep:
            state[name] = gathered.to(
                "cpu", dtype if gathered.is_floating_point() else None, copy=True
            )
    return with_values(meta_network, state) if keep else None


def with_values(network: Network, values: dict[str, Tensor]) -> Network:
    """Copy a network with these parameters and buffers, which do not require grad."""
    memo = {
        id(old): nn.Parameter(values[name], requires_grad=False)
        if isinstance(old, nn.Parameter)
        else values[name]
        for name, old in named_values(network).items()
    }
    return copy.deepcopy(network, memo)


def named_values(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
