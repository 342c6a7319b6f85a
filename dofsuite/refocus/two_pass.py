"""Backward passes of a loss in parts, so that only one part's graph is alive at a time.

Automatic optimization, gradient accumulation and DDP expect one backward pass a step: the parts are
differentiated early, and their gradients arrive in that one. Costs one copy of the trainable
parameters' gradients.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

# Rows of a sample whose activations are alive at a time: all, those of one loss, one.
SplitBackward = Literal["none", "losses", "rows"]


class _ReplayGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(upstream * gradient for gradient in ctx.gradients)


def backward_early(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Differentiate `loss` now and free its graph; the result's backward replays the gradients."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return replay(loss.detach(), parameters, gradients)


def backward_by_rows(
    predict: Callable[[Any], Tensor],
    rows: Sequence[Any],
    loss_of: Callable[..., Tensor],
    parameters: Sequence[nn.Parameter],
) -> Tensor:
    """Differentiate L(F_1, ..., F_n) with one row's graph alive at a time.

    dL/dw = sum_i (dF_i/dw)^T dL/dF_i, and dL/dF_i needs all predictions but no graph: every row but
    the last runs without gradient first, and once more for its own term. So n rows cost n - 1 more
    forward passes and the memory of one.

    Args:
        predict: F of one row; called twice, it must return the same.
        rows: Its inputs.
        loss_of: L of all predictions.
        parameters: What is trained.

    Returns:
        L, whose backward replays the gradients.
    """
    # All predictions; the last one keeps its graph.
    with torch.no_grad():
        predictions = [predict(row) for row in rows[:-1]]
    last = predict(rows[-1])
    # dL/dF_i, without the network.
    leaves = [prediction.detach().requires_grad_() for prediction in (*predictions, last)]
    loss = loss_of(*leaves)
    cotangents = torch.autograd.grad(loss, leaves)
    # Each row against its own, the last first: its graph is freed before the next is built.
    gradients = list(torch.autograd.grad(last, parameters, cotangents[-1], allow_unused=True))
    del last
    for row, cotangent in zip(rows[:-1], cotangents[:-1], strict=True):
        terms = torch.autograd.grad(predict(row), parameters, cotangent, allow_unused=True)
        for index, term in enumerate(terms):
            total = gradients[index]
            gradients[index] = term if total is None else total if term is None else total + term
    return replay(loss.detach(), parameters, gradients)


def replay(
    value: Tensor, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]
) -> Tensor:
    """Return `value` with a backward that hands out gradients computed before."""
    used = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    return _ReplayGradients.apply(value, [g for _, g in used], *(p for p, _ in used))
