"""Every metric over two gloo processes, each with a part of the scenes, against the function of all scenes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from dofsuite.metrics import BlurGain, FocusHitRate, LVCorr, blur_gain, focus_hit_rate, lv_corr
from tests.metrics.conftest import LEVELS, sweep_of_contrast


def worker(rank: int, preds: Tensor, target: Tensor, points: Tensor, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    mine = slice(0, 2) if rank == 0 else slice(2, None)
    metrics = [LVCorr(LEVELS), LVCorr(LEVELS, "level_per_scene"), BlurGain(LEVELS), FocusHitRate()]
    inputs = [(preds,), (preds,), (preds, target), (preds[:, :2], points)]
    for metric, of_all in zip(metrics, inputs, strict=True):
        metric.update(*(tensor[mine] for tensor in of_all))
    torch.save([metric.compute().item() for metric in metrics], folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    preds, target = sweep_of_contrast([1, 0.5, 0.4, 0.3], 7), sweep_of_contrast([1, 0.8, 0.7, 0.6], 7, seed=1)
    preds[4:] = preds[4:].flip(1)
    points = torch.rand(7, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.multiprocessing.spawn(worker, (preds, target, points, tmp_path), nprocs=2)
    expected = [
        lv_corr(preds, LEVELS),
        lv_corr(preds, LEVELS, "level_per_scene"),
        blur_gain(preds, target, LEVELS),
        focus_hit_rate(preds[:, :2], points),
    ]
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx([score.item() for score in expected], rel=1e-9)
