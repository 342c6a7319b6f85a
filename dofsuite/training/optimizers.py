"""Optimizer settings that depend on the device."""

from torch.optim import Optimizer


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
