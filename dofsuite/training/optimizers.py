"""What depends on the optimizer: its settings by device, and its memory."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def fuse(optimizer: Optimizer) -> Optimizer:
    """Turn on torch's fused step where an optimizer has one and all of its weights are on GPUs.

    After its construction, because Lightning refuses to clip gradients for an optimizer that was
    constructed with `fused=True` under any mixed precision, though bfloat16 has no scaler that
    could be passed by. An experiment that says `fused` or `foreach` itself is left alone.
    """
    groups = optimizer.param_groups
    on_gpu = all(parameter.is_cuda for group in groups for parameter in group["params"])
    for group in groups:
        if on_gpu and group.get("fused", 0) is None and group.get("foreach") is None:
            group["fused"] = True
    return optimizer


def state_bytes_per_weight(optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]) -> float:
    """Return what an optimizer keeps for each weight: 8 bytes for AdamW, two moments in float32.

    Counted of its own state after a step of zeros.
    """
    weight = nn.Parameter(torch.zeros(256, 256))
    weight.grad = torch.zeros_like(weight)
    stepped = optimizer([weight])
    # torchao compiles its step, which has no use here
    with torch.compiler.set_stance("force_eager"):
        stepped.step(lambda: 0.0)
    states = [value for value in stepped.state[weight].values() if isinstance(value, Tensor)]
    # All but single numbers, such as the step
    return sum(map(_bytes_of, (each for each in states if each.ndim))) / weight.numel()


# Also of a tensor that consists of others, as torchao's in 8 bits.
def _bytes_of(tensor: Tensor) -> int:
    if not is_traceable_wrapper_subclass(tensor):
        return tensor.nbytes
    names, _ = tensor.__tensor_flatten__()
    return sum(getattr(tensor, str(name)).nbytes for name in names)
