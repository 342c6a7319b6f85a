"""What a computation costs, counted operation by operation; on the meta device it takes no memory.

An operation of n output values counts as n FLOP (a reduction: as its inputs), a matrix product as
2 m n k, a real FFT of n values as 2.5 n log2 n, a complex one as 5 n log2 n. What only looks at
memory in another way (views) costs nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dofsuite.optics.bokeh import render_bokeh
from dofsuite.optics.live_bytes import LiveBytes

# For which the host waits until the device has computed a value.
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item"}
# Transforms, by what is counted: the real side of a real one.
FFTS = {"_fft_r2c": 0, "_fft_c2r": 1, "_fft_c2c": 0}
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm"}
REDUCTIONS = {"sum", "mean", "amax", "amin", "aminmax", "prod", "cumsum"}
# What runs no kernel.
ALLOCATIONS = {
    "_unsafe_view",
    "empty",
    "new_empty",
    "empty_strided",
    "empty_like",
    "new_empty_strided",
}


@dataclass(frozen=True)
class Cost:
    """Of one computation."""

    flop: float
    forward_ffts: int
    """Two-dimensional real FFTs, one for each channel of each layer."""
    inverse_ffts: int
    launches: int
    """Operations that run a kernel on a GPU, at least one each."""
    moved_bytes: int
    """Read and written, if no operation is fused with another."""
    peak_bytes: int
    """Most bytes at once beyond what was there before."""
    waits: int
    """Times that the host waits for the device, copies to the CPU included."""


class CostCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operation while it is active, as a context manager."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0.0
        self.forward_ffts = self.inverse_ffts = 0
        self.launches = self.moved_bytes = self.waits = 0
        self.memory = LiveBytes()

    @property
    def cost(self) -> Cost:
        return Cost(
            self.flop,
            self.forward_ffts,
            self.inverse_ffts,
            self.launches,
            self.moved_bytes,
            self.memory.peak,
            self.waits,
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").rstrip("_") or func._schema.name
        inputs, outputs = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
            for tree in ((args, kwargs), result)
        )
        self._count_waits(name, inputs, outputs)
        # Views run no kernel and hold no memory of their own
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        if alias is None or alias.is_write:
            for each in outputs:
                self.memory.add(each)
            if name not in ALLOCATIONS and outputs:
                self.launches += 1
                self.moved_bytes += sum(each.nbytes for each in inputs + outputs)
                self.flop += self._flop(name, inputs, outputs)
        return result

    def _count_waits(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        from_device = any(each.device.type != "cpu" for each in inputs)
        to_cpu = from_device and any(each.device.type == "cpu" for each in outputs)
        by_mask = name == "index" and any(each.dtype == torch.bool for each in inputs[1:])
        self.waits += name in WAITS or by_mask or to_cpu

    def _flop(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> float:
        if name in FFTS:
            real = (inputs[0], outputs[0])[FFTS[name]]
            length = math.prod(real.shape[-2:])
            transforms = real.numel() // length
            if name == "_fft_r2c":
                self.forward_ffts += transforms
            elif name == "_fft_c2r":
                self.inverse_ffts += transforms
            per_value = 5.0 if name == "_fft_c2c" else 2.5
            return per_value * real.numel() * math.log2(max(length, 2))
        if name in PRODUCTS:
            return 2.0 * outputs[0].numel() * inputs[-2].shape[-1]
        values = sum(each.numel() for each in outputs)
        return float(max(values, inputs[0].numel()) if name in REDUCTIONS and inputs else values)


def cost_of(call: Callable[[], object]) -> Cost:
    """Count what a call does."""
    counter = CostCounter()
    with counter:
        call()
    return counter.cost


def lens_cost(
    method: str,
    height: int,
    width: int,
    radius_px: float | int,
    *,
    batch: int = 1,
    backward: bool = True,
    signed: bool = False,
    fft_dtype: torch.dtype = torch.float64,
) -> Cost:
    """The cost of `render_bokeh` where radii reach up to `radius_px`, in float32.

    Args:
        method: Of `render_bokeh`.
        height: Of the image.
        width: Of the image.
        radius_px: Largest radius.
        batch: Images.
        backward: Whether the gradients by image and radius are part of it.
        signed: Whether radii reach as far in front of the focal plane as behind it; without, all
            lie behind it. Only `occlusion` tells the difference: it has a layer for each step.
        fft_dtype: Of `layered` and `occlusion`.
    """
    image = torch.empty(batch, 3, height, width, device="meta", requires_grad=backward)
    radius = torch.empty(batch, 1, height, width, device="meta", requires_grad=backward)
    # Without values, the range says how far radii reach.
    range_px = (-float(radius_px), float(radius_px) if signed else 0.0)

    def render() -> None:
        light = render_bokeh(
            image,
            radius,
            method,
            fft_dtype=fft_dtype,
            radius_range_px=range_px,
            reads_radius=False,
        )
        if backward:
            torch.autograd.backward(light, torch.empty_like(light))

    return cost_of(render)


@dataclass(frozen=True)
class LensCycle:
    """The lens in a Shallow cycle: what stands beside the networks' FLOPs, and its bytes."""

    generator_step: Cost
    """Forward and backward, by image and radius."""
    critic_step: Cost
    """Forward only: of a critic step that makes its own sample."""
    flop: float
    """Of the whole cycle."""

    @property
    def peak_bytes(self) -> int:
        """Most bytes at once, those that wait for the backward pass included."""
        return max(self.generator_step.peak_bytes, self.critic_step.peak_bytes)


def lens_cycle_cost(
    method: str,
    height: int,
    width: int,
    radius_px: float | int,
    *,
    batch: int = 1,
    critic_samples: int = 4,
) -> LensCycle:
    """The cost of `render_bokeh` in one Shallow cycle of text2image, at a stated largest radius.

    For a step's memory with its other networks, count it within `meta.stated_radius`: the lens's
    bytes are then in its peak where they fall.

    Args:
        method: Of `render_bokeh`.
        height: Of the images.
        width: Of the images.
        radius_px: Largest radius, on either side of the focal plane.
        batch: Images of a step.
        critic_samples: Critic steps that make a sample of their own: of five the first takes the
            generator's.
    """
    steps = [
        lens_cost(method, height, width, radius_px, batch=batch, backward=backward, signed=True)
        for backward in (True, False)
    ]
    generator_step, critic_step = steps
    flop = generator_step.flop + critic_samples * critic_step.flop
    return LensCycle(generator_step, critic_step, flop)
