"""Losses that are back-propagated one after the other, so that the activations of one live at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class _Settled(torch.autograd.Function):
    """A value that is already differentiated: its backward hands out gradients that were computed before."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(upstream * gradient for gradient in ctx.gradients)


def backward_early(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Differentiate `loss` now and free its graph; the result back-propagates into `parameters` as `loss` would.

    Two calls with a backward each would do the same, but automatic optimisation, gradient
    accumulation and DDP expect one backward a step; here the gradients arrive in that one. Costs
    one copy of the trainable parameters' gradients.
    """
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    used = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    return _Settled.apply(loss.detach(), [g for _, g in used], *(p for p, _ in used))
