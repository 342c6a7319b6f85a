"""Every metric over two gloo processes, each with a part of the scenes, against the function of all
scenes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed

from tests.metrics.every_metric import every_metric


def worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    mine = slice(0, 2) if rank == 0 else slice(2, None)
    scores = {}
    for name, case in every_metric().items():
        metric = case.make()
        metric.update(*(tensor[mine] for tensor in case.inputs))
        scores[name] = metric.compute().item()
        if name.startswith("blur_monotonicity"):
            # looking at ties leaves what this process has counted as it was
            metric.update(torch.full((3, 4, 3, 9, 8), 0.5))
            scores[name + "_ties"] = metric.ties().item()
            metric.update(torch.full((2, 4, 3, 9, 8), 0.5))
            scores[name + "_more_ties"] = metric.ties().item()
    torch.save(scores, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(worker, (tmp_path,), nprocs=2)
    cases = every_metric()
    expected = {name: case.function(*case.inputs).item() for name, case in cases.items()}
    for name in cases:
        if name.startswith("blur_monotonicity"):
            # seven scenes without a tie, then three and two flat ones on each of two ranks
            expected |= {name + "_ties": 6 / 13, name + "_more_ties": 10 / 17}
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(expected, rel=1e-9)
