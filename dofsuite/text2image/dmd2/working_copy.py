"""Low-precision working copies of float32 networks, refreshed once per optimizer step.

Under mixed precision autocast rounds every weight anew in every forward: about 1700 casts a call of
SDXL's UNet, a dozen calls a step. A working copy holds the rounded weights. It runs outside
autocast, wholly in its own precision, as the network does at inference. Its gradients arrive
at the float32 weights through one autograd node, so optimizers, DDP's reduction and checkpoints
know nothing of it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dofsuite.optics.scattering import without_autocast
from dofsuite.training.sharding.fsdp import with_values


class WorkingCopy:
    """A network of another dtype that follows the weights of `master`; no part of the module tree.

    `network` is called instead of `master`; `bind` must come first in every step.
    """

    def __init__(self, master: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
        self.master = master
        self.weights = list(master.parameters())
        rounded = {name: weight.detach().to(dtype) for name, weight in _named_values(master)}
        self.network = with_values(master, rounded)
        self.rounded = [weight.detach() for weight in self.network.parameters()]
        # Weights that have this dtype already are the master's own, as are frozen ones with LoRA.
        self.copied = [place for place, w in enumerate(self.weights) if w.dtype != dtype]
        self.slots = list(_slots(self.network))
        self.version = self._version()
        run_in_own_precision(self.network)

    def refresh(self) -> bool:
        """Round the weights anew if any was changed in place; returns whether it was so."""
        if (version := self._version()) == self.version:
            return False
        with torch.no_grad():
            rounded = [self.rounded[place] for place in self.copied]
            if rounded:
                torch._foreach_copy_(rounded, [self.weights[p].detach() for p in self.copied])
        self.version = version
        return True

    def bind(self) -> None:
        """Refresh, and let the copy's weights require gradients where the master's do.

        For one backward pass: each micro-batch has a node of its own.
        """
        self.refresh()
        learning = [place for place, w in enumerate(self.weights) if w.requires_grad]
        if not learning:
            return self.release()
        rounded = [self.rounded[place] for place in learning]
        weights = [self.weights[place] for place in learning]
        bound: Any = _Rounded.apply(rounded, *weights)  # type: ignore[no-untyped-call]
        for place, weight in zip(learning, bound, strict=True):
            module, name = self.slots[place]
            module._parameters[name] = weight

    def release(self) -> None:
        """Drop the graph of the last step, between steps."""
        for (module, name), weight in zip(self.slots, self.rounded, strict=True):
            module._parameters[name] = weight  # type: ignore[assignment]  # no nn.Parameter

    def _version(self) -> int:
        # Counts in-place changes: an optimizer's step, a loaded state.
        return sum(weight._version for weight in self.weights)


class _Rounded(torch.autograd.Function):
    """The rounded weights; their gradients go to the float32 weights, in float32."""

    @staticmethod
    def forward(ctx: Any, rounded: list[Tensor], *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.dtypes = [weight.dtype for weight in weights]
        return tuple(weight.detach() for weight in rounded)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        pairs = zip(gradients, ctx.dtypes, strict=True)
        full = [None if grad is None else torch.empty_like(grad, dtype=to) for grad, to in pairs]
        # A few launches for all weights.
        if found := [grad for grad in gradients if grad is not None]:
            torch._foreach_copy_([each for each in full if each is not None], found)
        return (None, *full)


def _named_values(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _slots(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    # In the order of `parameters()`.
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield module, name


def run_in_own_precision(network: nn.Module) -> None:
    """Take every call of a network, also of a view that shares its hooks, out of autocast."""
    contexts: list[Any] = []

    def enter(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        contexts.append(without_autocast(args[0]))
        contexts[-1].__enter__()

    def leave(*_: Any) -> None:
        contexts.pop().__exit__(None, None, None)

    network.register_forward_pre_hook(enter)
    network.register_forward_hook(leave, always_call=True)
