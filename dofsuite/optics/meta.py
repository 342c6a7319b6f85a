"""Tensors without values, where memory and FLOPs are counted; and the precision of computations."""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor's values can be read: not on the meta device, and not under FakeTensorMode.

    Checks of values, and sizes that follow from them, are skipped where there are none.
    """
    return not (tensor.is_meta or is_fake(tensor))


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
