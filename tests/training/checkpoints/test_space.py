"""What checkpoints will take is what a real one takes, within its small overhead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoint_path
from dofsuite.training.checkpoints.space import checkpoint_space


def test_the_size_of_a_checkpoint_is_told_before_there_is_one(tmp_path: Path) -> None:
    layer = torch.nn.Linear(400, 400)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 400)).sum().backward()
    optimizer.step()
    expected = checkpoint_space(tmp_path / "not" / "there", layer.to("meta").parameters(), keep=3)
    assert expected.needed == 4 * expected.checkpoint
    assert expected.fits == (expected.needed <= shutil.disk_usage(tmp_path).free)
    # A real one.
    state = {"state_dict": layer.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    weights = torch.nn.Linear(400, 400).state_dict()
    path = checkpoint_path(tmp_path, 1)
    AtomicCheckpointIO().save_checkpoint({**state, "state_dict": weights}, path)
    size = path.stat().st_size
    assert size == pytest.approx(expected.checkpoint, rel=0.01)
    # What lies there already is not needed again.
    after = checkpoint_space(tmp_path, layer.parameters(), keep=3)
    assert after.needed == 4 * expected.checkpoint - size


def test_an_average_adds_its_weights_once(tmp_path: Path) -> None:
    weights = [torch.empty(10, device="meta"), torch.empty(3, device="meta", dtype=torch.bfloat16)]
    plain = checkpoint_space(tmp_path, weights)
    assert plain.checkpoint == 3 * 46
    assert checkpoint_space(tmp_path, weights, weights).checkpoint == 4 * 46
