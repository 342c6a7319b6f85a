"""Linears whose weight is not trained, and is stored in fewer bits or in the host's memory."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class _Multiply(torch.autograd.Function):
    """x W^T + bias for a frozen W, which the backward pass makes anew from what is stored.

    Otherwise autograd keeps the copy that was multiplied with, of every linear until the backward
    pass: together more than the weights that were to be saved.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dense: Callable[[Tensor], Tensor], bias: Tensor | None
    ) -> Tensor:
        ctx.dense = dense
        return linear(x, dense(x), bias)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        return upstream @ ctx.dense(upstream), None, None


class FrozenLinear(nn.Linear, ABC):
    """Stands in a linear's place; gradients pass through it, to no weight of its own."""

    # A tensor, or one of torchao's
    weight: Any

    def __init__(self, origin: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = origin.in_features, origin.out_features
        self.weight, self.bias = origin.weight, origin.bias

    def forward(self, input: Tensor) -> Tensor:
        device = input.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            input = input.to(torch.get_autocast_dtype(device))
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return _Multiply.apply(input, self.dense, bias)

    @abstractmethod
    def dense(self, like: Tensor) -> Tensor:
        """Make the weight [out, in] of another tensor's dtype, on its device."""


class QuantizedLinear(FrozenLinear):
    """Its weight is a tensor of torchao's."""

    def dense(self, like: Tensor) -> Tensor:
        return self.weight.dequantize(like.dtype)


class HostLinear(FrozenLinear):
    """Its weight, quantized by torchao or not, stays in the host's memory.

    Each pass copies it to the device for one product. As nothing changes it, nothing is copied
    back; a module that is moved leaves it where it is.
    """

    def __init__(self, origin: nn.Linear) -> None:
        super().__init__(origin)
        weight: Any = origin.weight.detach().to("cpu")
        self.is_quantized = hasattr(weight, "tensor_data_names")
        if torch.cuda.is_available():
            pin = Tensor.pin_memory
            weight = weight._apply_fn_to_data(pin) if self.is_quantized else pin(weight)
        # In a tuple, where `nn.Module` does not see it; in its place something with a device
        self._on_host = (weight,)
        nothing = torch.empty(0, dtype=weight.dtype, device=origin.weight.device)
        self.weight = nn.Parameter(nothing, requires_grad=False)

    def dense(self, like: Tensor) -> Tensor:
        weight = self._on_host[0].to(like.device, non_blocking=True)
        return weight.dequantize(like.dtype) if self.is_quantized else weight.to(like.dtype)


class SizedLinear(FrozenLinear):
    """The memory and operations of one of these, or of bitsandbytes', without weights: to count."""

    def __init__(self, origin: nn.Linear, bits: Literal[4, 8] | None, is_on_host: bool) -> None:
        super().__init__(origin)
        self.bits, self.dtype = bits, origin.weight.dtype
        # Scales: of a row in float32; or of 64 values in 8 bits, and of 256 of those in float32
        count = origin.weight.numel()
        scales = 4 * self.out_features if bits == 8 else count // 64 + count // (64 * 64)
        size = count * self.dtype.itemsize if bits is None else count * bits // 8 + scales
        stored = torch.empty(0 if is_on_host else size, dtype=torch.uint8, device="meta")
        self.weight = nn.Parameter(stored, requires_grad=False)
        self.copied_bytes = size if is_on_host else 0

    def dense(self, like: Tensor) -> Tensor:
        shape, device = (self.out_features, self.in_features), like.device
        if self.bits is None:
            return torch.empty(shape, dtype=self.dtype, device=device).to(like.dtype)
        _copied = torch.empty(self.copied_bytes, dtype=torch.uint8, device=device)
        # torchao's product with the scales is in float32; bitsandbytes makes the result at once
        if self.bits == 8:
            return torch.empty(shape, device=device).mul(1.0).to(like.dtype)
        return torch.empty(shape, dtype=like.dtype, device=device)
