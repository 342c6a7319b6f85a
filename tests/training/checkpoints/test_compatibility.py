"""A run is continued with the weights that it trains, or told which others it found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dofsuite.errors import UserError
from dofsuite.training import check_compatible

KEYS = {"names": "model.targets", "shapes": "model.rank"}


def adapter(rank: int, **more: nn.Module) -> nn.ModuleDict:
    """A frozen layer and a trained pair beside it."""
    module = nn.ModuleDict({"base": nn.Linear(4, 4), "down": nn.Linear(4, rank), **more})
    module["base"].requires_grad_(False)
    return module


def trained(module: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: weight.detach() for name, weight in module.named_parameters() if weight.requires_grad
    }


def test_the_same_weights_are_taken() -> None:
    check_compatible(trained(adapter(2)), adapter(2), **KEYS)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (
            adapter(3),
            "down.weight has the shape [3, 4] in that run and [2, 4] here: set model.rank as",
        ),
        (
            adapter(2, up=nn.Linear(2, 4)),
            "up.bias is trained in that run and not here: set model.targets as",
        ),
        (
            nn.ModuleDict({"unet": nn.Linear(1, 1)}),
            "none of the weights of ModuleDict (but unet.bias): name a run of",
        ),
    ],
)
def test_other_weights_are_named_with_the_key_to_set(other: nn.Module, reason: str) -> None:
    with pytest.raises(UserError) as said:
        check_compatible(trained(other), adapter(2), **KEYS)
    assert str(said.value).startswith("continue_from: ")
    assert reason in str(said.value)
    assert "\n" not in str(said.value)


def test_weights_that_the_run_did_not_train_yet_are_named() -> None:
    with pytest.raises(
        UserError, match=r"up\.bias is trained here and not in that run: set model\.targets"
    ):
        check_compatible(trained(adapter(2)), adapter(2, up=nn.Linear(2, 4)), **KEYS)
