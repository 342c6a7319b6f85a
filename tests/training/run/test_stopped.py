"""A stop signal ends a run with exit code 143 in every phase, and the same command goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoints_of
from dofsuite.training.run.folder import LEFTOVER
from tests.tiny_runs import EXPERIMENT, TinyModel
from tests.training.run.kills import SAID, run

WORDS = ["x.yaml"]
# The last validation is not at the last step, so that one more ends the run.
CONTENT = EXPERIMENT | {
    "model": {"class_path": "tests.training.run.test_stopped.Signalled"},
    "trainer": EXPERIMENT["trainer"]
    | {"max_steps": 6, "val_check_interval": 4, "log_every_n_steps": 1},
    "checkpoint": {"every_n_train_steps": 2},
}
SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")


def reach(phase: str) -> None:
    """Get the signal of `SIGNAL` in the phase of `SIGNAL_IN`."""
    if os.environ.get("SIGNAL_IN") == phase:
        os.kill(os.getpid(), signal.Signals[os.environ["SIGNAL"]])
        for _ in range(100):  # a handler runs between two instructions of Python
            pass


class Deleted:
    """An exception that a handler raises in here is printed and lost."""

    def __del__(self) -> None:
        reach("deleted")


class Signalled(TinyModel):
    """A model whose phases may be signalled."""

    def __init__(self) -> None:
        super().__init__()
        reach("built")
        Deleted()

    def configure_model(self) -> None:
        reach("weights")

    def on_train_start(self) -> None:
        reach("first step")

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.global_step == 2:
            reach("step")
        if self.global_step == 2 and os.environ.get("SIGNAL_IN") == "twice":
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        reach("validation" if self.global_step == 4 else "last validation")
        super().validation_step(batch, batch_idx)

    def on_train_batch_end(self, *args: Any) -> None:
        if self.global_step == 6:
            reach("after the last step")

    def on_fit_end(self) -> None:
        reach("trained")

    def export(self, folder: Path) -> None:
        super().export(folder)
        reach("export")


# Phases in which there is something to save, and how far the run is then.
SAVED = {"first step": 1, "step": 3, "validation": 4, "after the last step": 6}
BEFORE = ("built", "deleted", "weights")
AFTER = ("last validation", "trained", "export")
EACH = [(phase, name) for phase in (*BEFORE, *SAVED, *AFTER) for name in SIGNALS]
# Each phase once, each signal in turn.
QUICK = EACH[::4] + EACH[-1:]


def begun(folder: Path) -> Path:
    folder.mkdir()
    (folder / "x.yaml").write_text(yaml.safe_dump(CONTENT))
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = begun(tmp_path_factory.mktemp("undisturbed") / "whole")
    assert run(folder, WORDS) == 0, (folder / SAID).read_text()
    return folder


def assert_ends_as(folder: Path, undisturbed: Path) -> None:
    """The same command goes on, to the weights, optimizer, log and export of a run undisturbed."""
    assert run(folder, WORDS) == 0, (folder / SAID).read_text()
    root, whole = folder / "runs" / "x", undisturbed / "runs" / "x"
    one, two = (AtomicCheckpointIO().load_checkpoint(checkpoints_of(r)[0]) for r in (root, whole))
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=0)
    for name in ("metrics.jsonl", "metrics.json", "export/layers.pt"):
        assert (root / name).read_bytes() == (whole / name).read_bytes(), name
    assert not [path for path in root.rglob("*") if LEFTOVER.fullmatch(path.name)]


@pytest.mark.parametrize(
    ("phase", "name"),
    [pytest.param(*each, marks=[] if each in QUICK else pytest.mark.slow) for each in EACH],
)
def test_a_signal_ends_the_run_in_any_phase(
    undisturbed: Path, tmp_path: Path, phase: str, name: str
) -> None:
    folder = begun(tmp_path / "run")
    code = run(folder, WORDS, environment={"SIGNAL_IN": phase, "SIGNAL": name})
    said = (folder / SAID).read_text()
    assert code == 143, said
    assert "Traceback" not in said
    if phase in SAVED:
        assert f"runs/x: stopped by {name} at step {SAVED[phase]} and saved" in said
    else:
        assert said.endswith(f"stopped by {name}; the same command goes on.\n")
    assert_ends_as(folder, undisturbed)


def test_a_second_ctrl_c_ends_at_once(undisturbed: Path, tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    assert run(folder, WORDS, environment={"SIGNAL_IN": "twice"}) == 143
    said = (folder / SAID).read_text()
    assert said.endswith("stopped by SIGINT; the same command goes on.\n")
    assert "Traceback" not in said
    assert [path.stem for path in checkpoints_of(folder / "runs" / "x")] == ["step-00000002"]
    assert_ends_as(folder, undisturbed)


def test_killed_right_behind_a_save_the_log_has_that_step_s_row(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = begun(tmp_path / "run")
    killed = {"SIGNAL_IN": "after the last step", "SIGNAL": "SIGKILL"}
    assert run(folder, WORDS, environment=killed) == -signal.SIGKILL
    assert_ends_as(folder, undisturbed)
