"""The array script: one sweep line a task, and a stopped task is queued again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "slurm" / "array.sbatch"


def run_task(folder: Path, exit_code: int, *words: str, **environment: str) -> tuple[int, list[str]]:
    """Run the script as Slurm would, with its programs replaced by ones that note how they were called."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    programs = {
        "bin/srun": '"$@"',
        "bin/scontrol": 'echo "scontrol $*" >> calls',
        ".venv/bin/python": f'echo "python $*" >> calls; exit {exit_code}',
    }
    (folder / "bin").mkdir()
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(["bash", SCRIPT, *words], cwd=folder, env={"PATH": path, **environment}, check=False)
    calls = folder / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


def test_a_task_runs_its_line_and_passes_overrides_on(tmp_path: Path) -> None:
    code, calls = run_task(tmp_path, 0, "x.yaml", "s.txt", "--trainer.max_steps", "3", SLURM_ARRAY_TASK_ID="1")
    assert (code, calls) == (0, ["python -m dofsuite.fit x.yaml --sweep s.txt --trainer.max_steps 3"])


def test_a_task_that_was_stopped_after_saving_is_queued_again(tmp_path: Path) -> None:
    ids = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    code, calls = run_task(tmp_path, 143, "x.yaml", "s.txt", **ids)
    assert (code, calls[1:]) == (143, ["scontrol requeue 7_1"])


def test_a_users_mistake_is_not_queued_again(tmp_path: Path) -> None:
    code, calls = run_task(tmp_path, 2, "x.yaml", "s.txt", SLURM_JOB_ID="9")
    assert (code, len(calls)) == (2, 1)


@pytest.mark.parametrize("option", ["--requeue", "--open-mode=append", "--signal=USR1@120"])
def test_what_resuming_rests_on_is_asked_for(option: str) -> None:
    assert f"#SBATCH {option}" in SCRIPT.read_text()
