"""Two ranks train as one with a batch of both, in each other's order, and hand over to one in the
middle of a cycle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dofsuite.training.checkpoints.io import read_checkpoint
from tests.text2image.tiny import tiny_data, tiny_module, train
from tests.text2image.two_ranks import OPTIONS, STEPS

ROOT = Path(__file__).parents[2]


def train_on_two_ranks(folder: Path, precision: str) -> None:
    folder.mkdir()
    run = subprocess.run(
        [sys.executable, "-m", "tests.text2image.two_ranks", str(folder), precision],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gradients_of_working_copies_are_reduced_over_ranks(tmp_path):
    """Both ranks step alike, and as one does, to bfloat16's rounding."""
    train_on_two_ranks(tmp_path / "two", "bf16-mixed")
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = tiny_module(**OPTIONS)
    before = {name: weight.clone() for name, weight in start.networks.named_parameters()}
    data = tiny_data(OPTIONS["stages"], batch_size=4)
    train(start, STEPS, data=data, precision="bf16-mixed")
    one = dict(start.networks.named_parameters())
    for network in ("generator", "critic"):
        names = [name for name in before if name.startswith(network)]
        moved, alone = (
            torch.cat([(weights[name] - before[name]).flatten() for name in names])
            for weights in (first, one)
        )
        assert torch.nn.functional.cosine_similarity(moved, alone, dim=0) > 0.9


@pytest.mark.slow  # half a minute on a busy machine
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_ranks_train_as_one_and_hand_over_to_it(tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    train_on_two_ranks(two, "32-true")
    ranks = [json.loads((two / f"{rank}.json").read_text()) for rank in range(2)]
    losses = train(
        tiny_module(**OPTIONS), STEPS, one, data=tiny_data(OPTIONS["stages"], batch_size=4)
    )
    assert ranks[0] != ranks[1]
    for step in range(STEPS):
        mean = {name: sum(rank[str(step)][name] for rank in ranks) / 2 for name in losses[step]}
        assert mean == pytest.approx(losses[step], rel=1e-3), step
    for steps in (1, 4):  # after the generator's steps
        path = Path("checkpoints", f"step-{steps:08d}.ckpt")
        of_two, of_one = (read_checkpoint(folder / path)["generated"] for folder in (two, one))
        torch.testing.assert_close(of_two["latent"], of_one["latent"], rtol=1e-3, atol=1e-3)
        assert of_two["cond"]["caption"] == of_one["cond"]["caption"]
        data = tiny_data(OPTIONS["stages"], batch_size=4)
        resumed = train(tiny_module(**OPTIONS), steps + 1, resume=two / path, data=data)
        assert resumed[steps] == pytest.approx(losses[steps], rel=1e-3)
