"""What probes share: which scenes are a rank's, and numbers over ranks of which some saw none."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torchmetrics import MeanMetric, SumMetric

from dofsuite.training.validation import compute_all, num_scenes_on_rank


@pytest.mark.parametrize("ranks", [1, 2, 3, 16, 64])
@pytest.mark.parametrize("scenes", [1, 25, 32])
def test_every_rank_has_the_first_scenes_that_are_dealt_to_it(scenes, ranks):
    dealt = [
        len([i for i in range(100) if i % ranks == rank and i < scenes]) for rank in range(ranks)
    ]
    assert [num_scenes_on_rank(scenes, rank, ranks) for rank in range(ranks)] == dealt


def probe_on_a_rank(rank: int, folder: Path) -> None:
    """The first of two ranks sees three scenes, the second none."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    metrics = nn.ModuleDict({"scenes": SumMetric(), "mae": MeanMetric()})
    if rank == 0:
        metrics["scenes"].update(3)
        metrics["mae"].update(torch.tensor([1.0, 2.0, 6.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.save(compute_all(metrics), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_without_a_scene_take_part_in_the_sum_without_a_word(tmp_path, monkeypatch):
    monkeypatch.delenv(
        "LOCAL_RANK", raising=False
    )  # each rank is the first that its launcher knows, as under SLURM
    torch.multiprocessing.spawn(probe_on_a_rank, (tmp_path,), nprocs=2)
    assert [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)] == [
        {"scenes": 3.0, "mae": 3.0}
    ] * 2
