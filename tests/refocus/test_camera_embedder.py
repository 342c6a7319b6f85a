"""The camera token's three numbers are in the configured units."""

import pytest
import torch

from dofsuite.refocus import CameraEmbedder
from tests.refocus.tiny import tiny_module

POINT, LEVEL = torch.tensor([[0.25, 0.75]]), torch.tensor([14.0])
UNITS = [
    ({}, [-0.5, 0.5, 0.7]),
    ({"level_scale": 7.0}, [-0.5, 0.5, 2.0]),
    ({"focus_range": "unit"}, [0.25, 0.75, 0.7]),
]


@pytest.mark.parametrize(("units", "numbers"), UNITS)
def test_a_new_token_begins_with_its_numbers(units, numbers):
    token = CameraEmbedder(dim=8, **units)(POINT, LEVEL)
    assert token.shape == (1, 1, 8)
    assert token.flatten().tolist() == pytest.approx([*numbers, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(("units", "numbers"), UNITS)
def test_the_module_s_units_are_its_token_s(units, numbers):
    camera = tiny_module(**units).camera
    assert camera(POINT, LEVEL)[0, 0, :3].tolist() == pytest.approx(numbers)
    assert camera.config.reference_width_px == 256.0
