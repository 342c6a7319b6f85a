"""Tensors without values, where memory and FLOPs are counted; and the precision of computations."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake

# How far radii reach that have no values, in px.
_STATED_RADIUS_PX: ContextVar[float] = ContextVar("stated_radius_px", default=0.0)


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor's values can be read: not on the meta device, and not under FakeTensorMode.

    Checks of values, and sizes that follow from them, are skipped where there are none.
    """
    return not (tensor.is_meta or is_fake(tensor))


def device_type(tensor: Tensor) -> str:
    """The kind of device that work is divided for: where it is only counted, a GPU's memory."""
    return tensor.device.type if has_values(tensor) else "cuda"


@contextmanager
def stated_radius(radius_px: float | int) -> Iterator[None]:
    """Where radii have no values, take them to reach `radius_px` on either side of the focus.

    For counting a training step's memory with its lens in it, on the meta device or under
    FakeTensorMode.
    """
    token = _STATED_RADIUS_PX.set(float(radius_px))
    try:
        yield
    finally:
        _STATED_RADIUS_PX.reset(token)


def stated_range_px() -> tuple[float, float]:
    """The smallest and largest signed radius that `stated_radius` says; (0, 0) outside of it."""
    radius_px = _STATED_RADIUS_PX.get()
    return -radius_px, radius_px


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
