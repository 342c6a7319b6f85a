"""Sequential backward passes of several losses: only one loss's graph is alive at a time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class _ReplayGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(upstream * gradient for gradient in ctx.gradients)


def backward_early(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Differentiate `loss` now and free its graph; the result's backward replays the gradients.

    Two calls, each with a backward pass, would do the same, but automatic optimization, gradient
    accumulation and DDP expect one backward pass a step: the gradients arrive in that one. Costs
    one copy of the trainable parameters' gradients.
    """
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    used = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    return _ReplayGradients.apply(loss.detach(), [g for _, g in used], *(p for p, _ in used))
