"""A settled loss back-propagates as the loss itself."""

import weakref

import pytest
import torch
from torch import nn

from dofsuite.refocus.two_pass import backward_by_rows, backward_early


def two_losses(model, x):
    return model(x).square().mean(), (model(x * 2) - 1).square().mean()


def test_settled_parts_give_the_gradient_of_the_sum():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    parameters = list(model.parameters())
    first, second = two_losses(model, x)
    expected = torch.autograd.grad((first + 0.1 * second) / 4, parameters)
    first, second = two_losses(model, x)
    total = (backward_early(first, parameters) + 0.1 * second) / 4
    total.backward()
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_rows_one_at_a_time_give_the_gradient_of_a_loss_that_couples_them(n):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    inputs = torch.randn(n, 5, 4, dtype=torch.float64)
    parameters = list(model.parameters())

    def loss_of(*predictions):
        return (sum(predictions) - 1).square().mean() * predictions[0].exp().mean()

    expected = torch.autograd.grad(loss_of(*map(model, inputs)) / 4, parameters)
    loss = backward_by_rows(model, list(inputs), loss_of, parameters)
    (loss / 4).backward()
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-12)


class Saved:
    """A tensor kept for the backward pass, whose life can be watched."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_what_the_first_part_saved_is_freed_before_the_second_is_built():
    alive = []

    def keep(tensor):
        saved = Saved(tensor)
        alive.append(weakref.ref(saved))
        return saved

    model = nn.Linear(4, 4)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved.tensor):
        loss = backward_early(model(torch.randn(3, 4)).exp().mean(), list(model.parameters()))
    assert alive
    assert all(reference() is None for reference in alive)
    assert loss.requires_grad


def test_a_parameter_that_the_loss_does_not_use_gets_no_gradient():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    backward_early(used.sum(), [used, unused]).backward()
    assert used.grad.tolist() == [1, 1]
    assert unused.grad is None
