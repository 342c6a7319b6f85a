"""A real SLURM of one node: tasks of an array that are stopped in every documented way go on, and
end with the weights of a run that nothing disturbed.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoints_of
from tests.cluster.slurm import NO_SLURM, OneNodeSlurm, can_start
from tests.tiny_runs import EXPERIMENT

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "slurm" / "array.sbatch"
STEPS = 400

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not can_start(), reason=NO_SLURM)]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    cluster = OneNodeSlurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
    except (OSError, subprocess.CalledProcessError, AssertionError) as error:
        cluster.stop()
        pytest.skip(f"SLURM does not start on this machine: {error}")
    yield cluster
    cluster.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is not the project's, with an experiment and a sweep of four equal lines."""
    content = copy.deepcopy(EXPERIMENT)
    content["model"]["class_path"] = "tests.cluster.paced_model.PacedModel"
    content["trainer"]["max_steps"] = STEPS
    (tmp_path / "paced.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "four.txt").write_text("--model.schedule.learning_rate 0.02\n" * 4)
    return tmp_path


def saved_steps(run: Path) -> int:
    """The step of a run's newest checkpoint; 0 without one."""
    names = [path.stem for path in (run / "checkpoints").glob("step-*.ckpt")]
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def trains(run: Path) -> bool:
    """Whether it has saved and not finished."""
    return saved_steps(run) > 0 and not (run / "finished.json").exists()


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return AtomicCheckpointIO().load_checkpoint(checkpoints_of(run)[0])["state_dict"]


def test_tasks_stopped_by_time_limit_signal_and_a_dead_node_end_as_the_undisturbed_one(
    slurm, folder
):
    env = {"DOFSUITE_PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = ["--gpus-per-node=0", "--cpus-per-task=1", "--mem-per-cpu=1G"]
    words = [folder / "paced.yaml", folder / "four.txt", "--allow-import", "tests"]
    job = slurm.submit(folder, env, "--array=0-3", *options, "--signal=USR1@40", SCRIPT, *words)
    runs = [folder / "runs" / "four" / str(index) for index in range(4)]

    # 0: its time limit. 1: a signal to the batch shell alone. 2: the node dies. 3: nothing
    slurm.wait(lambda: saved_steps(runs[0]), 240)
    slurm.call("scontrol", "update", f"JobId={job}_0", f"TimeLimit={slurm.minutes(job) + 1}")
    slurm.wait(lambda: saved_steps(runs[1]), 240)
    slurm.signal_batch(f"{job}_1")
    # Once stopped, the task gets its time back: on a slow machine a minute is over at its start
    slurm.wait(lambda: "stopped by SIGUSR1 at step" in slurm.log(folder, job, 0), 240)
    slurm.call("scontrol", "update", f"JobId={job}_0", "TimeLimit=30")
    slurm.wait(lambda: any(map(trains, runs[2:])), 240)
    slurm.kill_node(folder / "paced.yaml")
    slurm.wait(lambda: "down" in slurm.call("sinfo", "-h", "-o", "%T"), 60)
    slurm.start_node()
    slurm.wait(lambda: not slurm.jobs(), 400)

    # All of them were stopped as planned, finished, and alike
    said = [slurm.log(folder, job, index) for index in range(4)]
    assert all(f"finished at step {STEPS}" in text for text in said)
    assert "resuming from" in said[0]
    assert "resuming from" in said[1]
    assert any("resuming from" in text for text in said[2:])
    expected = weights_of(runs[3])
    for run in runs[:3]:
        torch.testing.assert_close(weights_of(run), expected, rtol=0, atol=0)
