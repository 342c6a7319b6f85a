"""Counted FLOPs and bytes against closed forms."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from dofsuite.training.footprint import Footprint, extrapolated, measure

ROWS, WIDTH = 64, 256
FLOAT32 = 4


def count(step, module=None, networks=None, fakes=None):
    standing = {"weights": module.parameters()} if module is not None else {}
    return measure(step, standing, networks or {}, fakes or FakeTensorMode())


def squares(depth, fakes):
    """x -> x^2 after every linear: a linear saves its input, a square its own."""
    with fakes:
        model = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(depth))
        x = torch.empty(ROWS, WIDTH)

    def step():
        y = x
        for linear in model:
            y = linear(y).square()
        y.sum().backward()

    return model, step


@pytest.mark.parametrize("depth", [2, 5])
def test_a_step_of_linears_has_its_flops_and_its_peak(depth):
    fakes = FakeTensorMode()
    model, step = squares(depth, fakes)
    counted = count(step, model, {"linears": model}, fakes)
    # Forward, gradient of the weights, gradient of the inputs (but for the first)
    assert counted.flops == (3 * depth - 1) * 2 * ROWS * WIDTH**2
    # All weights; outputs of linears and squares, which are saved for the backward pass. The peak
    # is near its beginning: one weight's gradient and a few activations more.
    weights, activation = depth * WIDTH**2 * FLOAT32, ROWS * WIDTH * FLOAT32
    least = weights + 2 * depth * activation
    assert counted.at_peak["weights"] == weights
    assert least <= counted.peak_bytes <= least + depth * WIDTH**2 * FLOAT32 + 4 * activation


def test_what_is_freed_is_not_counted_and_what_lives_is():
    def step():
        for _ in range(3):
            torch.empty(1000)
        kept = [torch.empty(1000) for _ in range(3)]
        del kept

    assert count(step).peak_bytes == 3 * 1000 * FLOAT32


def test_attention_counts_its_two_products_and_twice_that_backward():
    heads, tokens, width = 2, 48, 16
    fakes = FakeTensorMode()
    with fakes:
        q, k, v = (torch.empty(1, heads, tokens, width, requires_grad=True) for _ in range(3))
    forward = 2 * 2 * heads * tokens**2 * width
    counted = count(
        lambda: functional.scaled_dot_product_attention(q, k, v).sum().backward(), fakes=fakes
    )
    assert counted.flops == 3 * forward
    # Fused: no matrix of tokens x tokens
    assert counted.peak_bytes < 12 * heads * tokens * width * FLOAT32


def test_norms_are_in_float32_under_autocast_as_on_cuda():
    dtypes = []
    fakes = FakeTensorMode()
    with fakes:
        x = torch.empty(4, 8, dtype=torch.bfloat16)

    def step():
        with torch.autocast("cpu", torch.bfloat16):
            dtypes.append(functional.layer_norm(x, (8,)).dtype)
        dtypes.append(functional.layer_norm(x, (8,)).dtype)

    count(step, fakes=fakes)
    assert dtypes == [torch.float32, torch.bfloat16]
    assert functional.layer_norm(torch.ones(2, 8).bfloat16(), (8,)).dtype == torch.bfloat16


def test_a_deep_network_is_counted_from_shallow_ones():
    def at(depths):
        fakes = FakeTensorMode()
        model, step = squares(*depths, fakes)
        return count(step, model, fakes=fakes)

    assert extrapolated(at, (9,)) == at((9,))
    assert isinstance(at((1,)), Footprint)
