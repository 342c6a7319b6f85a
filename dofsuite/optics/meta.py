"""Whether a tensor has numbers to look at: where memory and FLOPs are counted, there are shapes alone."""

from __future__ import annotations

from torch import Tensor
from torch._subclasses.fake_tensor import is_fake


def has_values(tensor: Tensor) -> bool:
    """Tell whether numbers can be read from a tensor: not on the meta device, and not under FakeTensorMode.

    Checks of a caller's numbers, and sizes that follow from them, are left out where there are
    none.
    """
    return not (tensor.is_meta or is_fake(tensor))
