"""FSDP2 for networks that are trained by turns: weights, gradients and moments dealt over the ranks.

Convention: a "root" is a network that is called as a whole (generator, fake score, head, teacher,
focus predictor); it and its large parts are units, whose weights a rank gathers when it reaches
them and gives up behind them. The frozen depth, saliency and codec stay on every rank.

What torch's `fully_shard` does at its own pace, and what is done here about it:

- It decides at a root's first call, by what asks for gradients then, in what type they are reduced.
  That call may come on a turn that freezes the root, and its own turn would fail. So each root is
  called once, doing nothing, while all that is ever trained asks for gradients.
- It keeps a root's own weights gathered after a call, which the next backward gives up. Calls
  without gradient have no backward. So roots give them up at once, as other units do.
- Ranks gather together, so all must call a network equally often. In validation they may have
  unlike numbers of prompts; for that time each holds whole networks (`held`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor


def shard(
    networks: nn.Module, average: nn.Module | None, mesh: DeviceMesh, precision: str
) -> dict[str, nn.Module]:
    """Deal the trained networks and the teacher over the ranks of `mesh`, in place.

    Args:
        networks: `Networks`, of which all that the run ever trains asks for gradients now.
        average: The running average of the generator.
        mesh: One row of ranks.
        precision: The trainer's. With `bf16-mixed` the three UNets are gathered in bfloat16 and
            their gradients reduced
            in float32: half the traffic, and autocast, which would keep its copy of each gathered
            weight until the turn ends, finds nothing to cast. Compared with DDP this also rounds
            the norms' weights (*ours*).

    Returns:
        Each root's name with a copy of it on the meta device, to be filled by `gathered`.
    """
    half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    policy = half if precision == "bf16-mixed" else MixedPrecisionPolicy()
    roots = {
        name: getattr(networks, name)
        for name in ("generator", "critic", "teacher", "head", "focus")
    }
    roots = {name: root for name, root in roots.items() if root is not None}
    meta_networks = {name: meta_copy(root) for name, root in roots.items()}
    for name, root in roots.items():
        deal(root, mesh, MixedPrecisionPolicy() if name in ("head", "focus") else policy)
        wake(root)
    if average is not None:
        deal(average.module, mesh, MixedPrecisionPolicy())
    return meta_networks


def deal(root: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    """Make a network's attentions, blocks and the rest units of their own, from the inside out."""
    blocks = [*getattr(root, "down_blocks", []), *getattr(root, "up_blocks", [])]
    blocks += [root.mid_block] if hasattr(root, "mid_block") else []
    attentions = [attention for block in blocks for attention in getattr(block, "attentions", [])]
    for unit in (*attentions, *blocks, root):
        fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def wake(root: nn.Module) -> None:
    """Call a root whose forward does nothing for once: FSDP2 then knows its units, and what asks for gradients."""
    root.forward = lambda: None
    try:
        root()
    finally:
        del root.forward


@contextmanager
def apart(meta_networks: Iterable[str], networks: nn.Module) -> Iterator[None]:
    """Keep gradients to this rank, whole, in backward passes within; the next one outside sends all of them."""
    roots = [getattr(networks, name) for name in meta_networks]
    for root in roots:
        root.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        for root in roots:
            root.set_requires_gradient_sync(True)


def hold(networks: nn.Module, held: bool) -> None:
    """Let every rank hold the networks of validation whole, or no longer; all ranks must ask, while none is called."""
    for name in ("generator", "teacher", "focus"):
        for unit in units(getattr(networks, name)):
            unit.set_reshard_after_forward(not held, recurse=False)
            unit.unshard() if held else unit.reshard()


def units(root: nn.Module | None) -> list[FSDPModule]:
    """Return the units of a network; none where it is not dealt."""
    return (
        []
        if root is None
        else [module for module in root.modules() if isinstance(module, FSDPModule)]
    )


def meta_copy(network: nn.Module) -> nn.Module:
    """Copy a network without its weights: onto the meta device."""
    return with_values(
        network, {name: value.detach().to("meta") for name, value in named_values(network).items()}
    )


def gathered(
    dealt: nn.Module, meta_networks: nn.Module, dtype: torch.dtype | None, keep: bool
) -> nn.Module | None:
    """Copy a network to the CPU, whole, weight by weight; every rank must ask, and those that do not keep it get None.

    Args:
        dealt: The network, dealt or not.
        meta_networks: A copy of it from before it was dealt, or itself.
        dtype: Of the copy's floating-point values; None keeps theirs.
        keep: Whether this rank wants the copy.
    """
    values = {}
    for name, value in named_values(dealt).items():
        whole = value.detach().full_tensor() if isinstance(value, DTensor) else value.detach()
        if keep:
            values[name] = whole.to("cpu", dtype if whole.is_floating_point() else None, copy=True)
    return with_values(meta_networks, values) if keep else None


def with_values(network: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    """Copy a network with these weights and buffers, which take no gradient."""
    memo = {}
    for name, value in named_values(network).items():
        new = values[name]
        memo[id(value)] = (
            nn.Parameter(new, requires_grad=False) if isinstance(value, nn.Parameter) else new
        )
    return copy.deepcopy(network, memo)


def named_values(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
