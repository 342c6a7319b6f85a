"""What a refocused picture says of itself."""

import torch
from torch import Tensor

from dofsuite.refocus.moved import what_moved


def picture() -> Tensor:
    return torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))


def test_a_picture_that_stayed_says_nothing():
    assert what_moved(picture(), picture()) == []


def test_what_moved_and_changed_its_color_is_said_with_its_amount():
    moved = picture().roll((2, -3), dims=(-2, -1)) * torch.tensor([1, 1, 0.6])[:, None, None]
    said = " and ".join(what_moved(moved, picture()))
    assert "moved by -3.0 px across and +2.0 px down" in said
    assert "changed its color by Delta E" in said
