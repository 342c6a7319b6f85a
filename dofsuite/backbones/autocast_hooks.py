"""Hooks that cast a tensor as autocast would, once for all the linears that read it.

In a module of their own, which the tests' checks of shapes leave out: compiled blocks run them.
"""

from typing import Any

import torch
from torch import Tensor, nn


def cast_first_output(module: nn.Module, inputs: Any, outputs: tuple[Tensor, ...]) -> Any:
    """Cast the first output of a norm, its blocks' input; the others are modulations."""
    normed, *modulations = outputs
    return _cast(normed), *modulations


def cast_inputs(
    module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Cast the hidden states; the rotary embedding, a tuple, stays in float32."""
    return tuple(map(_cast, inputs)), {name: _cast(value) for name, value in named.items()}


def _cast(value: Any) -> Any:
    if not isinstance(value, Tensor) or not torch.is_autocast_enabled(value.device.type):
        return value
    return value.to(torch.get_autocast_dtype(value.device.type))
