"""Memory and FLOPs of a training step, counted without weights and without a GPU.

The real step runs on fake tensors: every operation is dispatched, nothing is computed. Storages are
counted from their first appearance to their death, so the peak has weights, gradients, optimizer
state, saved activations and short-lived buffers; the allocator's own overhead is not in it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from dofsuite.optics.live_bytes import LiveBytes
from dofsuite.training.checkpoints.space import bytes_of

aten = torch.ops.aten


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def attention_backward_flops(
    grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    """Twice the forward pass, what the gradients need; a fused kernel recomputes a quarter more."""
    return 2 * sdpa_flop_count(query.shape, key.shape, value.shape)


# torch's formulas, and the CPU's fused attention, which they do not have.
FLOPS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
}
# Of ATen/autocast_mode.h's float32 list for CUDA what our networks and losses call; the CPU's list
# is shorter.
FLOAT32_ON_CUDA = (
    "group_norm",
    "huber_loss",
    "interpolate",
    "layer_norm",
    "mse_loss",
    "rms_norm",
    "softplus",
)


@dataclass(frozen=True)
class Footprint:
    """What one step needs; bytes on one device."""

    flops: int
    peak_bytes: int
    # What was alive at the peak, by the network that made it; what stood before, by its own name.
    at_peak: dict[str, int]
    # Of the weights that are trained.
    trained_bytes: int


@contextmanager
def autocast_as_on_cuda() -> Iterator[None]:
    """Cast up on the CPU what autocast casts up on CUDA, so that the same tensors are saved.

    By replacing torch's functions: a TorchFunctionMode does not see what is recomputed in the
    backward pass.
    """
    with ExitStack() as stack:
        for name in FLOAT32_ON_CUDA:
            function = getattr(functional, name)
            stack.enter_context(patch.object(functional, name, _cast_up(function)))
        yield


def _cast_up(function: Any) -> Any:
    def in_float32(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            args = tree_map(_as_float32, args)
        return function(*args, **kwargs)

    return in_float32


def _as_float32(value: Any) -> Any:
    is_floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if is_floating else value


class Count(TorchDispatchMode):
    """Counts FLOPs, and the bytes of every storage that is alive under the name of its maker."""

    def __init__(self) -> None:
        super().__init__()
        self.running = ["losses and optics"]
        self.memory = LiveBytes()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in FLOPS:
            self.flops += FLOPS[packet](*args, **(kwargs or {}), out_val=outputs)
        for output in outputs if isinstance(outputs, tuple | list) else (outputs,):
            if isinstance(output, Tensor):
                self.memory.add(output, self.running[-1])
        return outputs

    @contextmanager
    def naming(self, networks: Mapping[str, nn.Module]) -> Iterator[None]:
        """Count what is made in a network's forward pass under its name."""
        handles = []
        for name, network in networks.items():
            enter = network.register_forward_pre_hook(
                lambda *_, name=name: self.running.append(name)
            )
            leave = network.register_forward_hook(lambda *_: self._leave())
            handles += [enter, leave]
        yield
        for handle in handles:
            handle.remove()

    def _leave(self) -> None:
        self.running.pop()


def measure(
    step: Callable[[], None],
    standing: Mapping[str, Iterable[Tensor]],
    networks: Mapping[str, nn.Module],
    fakes: FakeTensorMode,
    trained: Iterable[Tensor] = (),
) -> Footprint:
    """Run a step on fake tensors and count.

    Args:
        step: Forward and backward passes, under `torch.autocast("cpu", ...)` where the run has one.
        standing: Tensors that are alive before the step, by name: weights, gradients, moments.
        networks: Those whose share is reported.
        fakes: The mode under which all of these tensors were made.
        trained: The weights that are trained.
    """
    count = Count()
    with fakes, count.naming(networks), count, autocast_as_on_cuda():
        for name, tensors in standing.items():
            for tensor in tensors:
                count.memory.add(tensor, name)
        step()
    at_peak = {name: size for name, size in count.memory.at_peak.items() if size > 0}
    return Footprint(count.flops, count.memory.peak, at_peak, bytes_of(trained))


@runtime_checkable
class HasDepths(Protocol):
    """A description of a network of equal blocks."""

    @property
    def depths(self) -> tuple[int, ...]:
        """Numbers of equal blocks."""

    def of_depths(self, depths: tuple[int, ...]) -> Any:
        """The same with other numbers of them."""


def count_by_depth(count: Callable[[Any], Footprint], backbone: Any) -> Footprint:
    """Count a network, one that has equal blocks with a few of them."""
    if not isinstance(backbone, HasDepths):
        return count(backbone)
    return extrapolated(lambda depths: count(backbone.of_depths(depths)), backbone.depths)


def extrapolated(
    measure_at: Callable[[tuple[int, ...]], Footprint], depths: tuple[int, ...]
) -> Footprint:
    """Return the footprint of a deep network from those of shallow ones.

    FLOPs and bytes are linear in the number of equal blocks, once there are some; so a network of
    57 blocks is counted with 14, in seconds. (From two on: with one, the peak is elsewhere.)

    Args:
        measure_at: The footprint at given numbers of equal blocks.
        depths: The true numbers.
    """
    # With a few blocks of each kind
    few = tuple(min(2, depth) for depth in depths)
    base = measure_at(few)
    flops, peak_bytes = base.flops, base.peak_bytes
    trained_bytes = base.trained_bytes
    at_peak = Counter(base.at_peak)
    # What one more of a kind adds, as often as there are more
    for index, depth in enumerate(depths):
        more = depth - few[index]
        if not more:
            continue
        one_more = measure_at((*few[:index], few[index] + 1, *few[index + 1 :]))
        flops += more * (one_more.flops - base.flops)
        peak_bytes += more * (one_more.peak_bytes - base.peak_bytes)
        trained_bytes += more * (one_more.trained_bytes - base.trained_bytes)
        for name in at_peak.keys() | one_more.at_peak.keys():
            step = one_more.at_peak.get(name, 0) - base.at_peak.get(name, 0)
            at_peak[name] += more * step
    return Footprint(flops, peak_bytes, dict(at_peak), trained_bytes)
