"""The run log keeps every row once, whatever interrupts it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from dofsuite.training import RunLog


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_is_logged_at_one_step_is_one_row(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.log_metrics({"loss": torch.tensor(0.5), "epoch": 0}, step=10)
    log.log_metrics({"val/loss": 0.25}, step=10)
    log.log_metrics({"loss": 0.125}, step=20)
    assert rows_of(tmp_path) == [
        {"step": 10, "loss": 0.5, "val/loss": 0.25},
        {"step": 20, "loss": 0.125},
    ]


def test_resuming_drops_the_rows_beyond_the_step_and_goes_on(tmp_path: Path) -> None:
    first = RunLog(tmp_path)
    for step in (10, 20, 30):
        first.log_metrics({"loss": step / 10}, step=step)
    second = RunLog(tmp_path)
    second.resume(20)
    second.log_metrics({"val/loss": 7.0}, step=20)
    second.log_metrics({"loss": 9.0}, step=30)
    assert rows_of(tmp_path) == [
        {"step": 10, "loss": 1.0},
        {"step": 20, "loss": 2.0, "val/loss": 7.0},
        {"step": 30, "loss": 9.0},
    ]


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    RunLog(tmp_path).log_metrics({"loss": 1.0}, step=10)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 20, "lo')
    log = RunLog(tmp_path)
    log.resume(20)
    log.log_metrics({"loss": 2.0}, step=20)
    assert rows_of(tmp_path) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}]


def test_a_loss_that_is_not_finite_stays_readable(tmp_path: Path) -> None:
    RunLog(tmp_path).log_metrics({"loss": float("nan"), "norm": float("inf")}, step=1)
    assert rows_of(tmp_path) == [{"step": 1, "loss": "nan", "norm": "inf"}]
