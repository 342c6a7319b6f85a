"""Killed at any moment and started again, a run of refocus ends with the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoints_of, damage_of
from dofsuite.training.run.folder import LEFTOVER
from tests.refocus.tiny import EXPERIMENT
from tests.training.run.kills import LOG, SAID, calls_of, ended_after, run

# Three checkpoints of which the first is removed, a validation, and another one at the end.
OFTEN = {"max_steps": 6, "log_every_n_steps": 1, "check_val_every_n_epoch": None}
CONTENT = EXPERIMENT | {
    "trainer": EXPERIMENT["trainer"] | OFTEN | {"val_check_interval": 4, "limit_val_batches": 2},
    "checkpoint": {"every_n_train_steps": 2},
}
WORDS = ["x.yaml"]
# Of each start: what it was, not what came of it.
OF_STARTS = {".lock", "command.txt", "versions.json"}


def begun(folder: Path) -> Path:
    folder.mkdir()
    (folder / "x.yaml").write_text(yaml.safe_dump(CONTENT))
    return folder


def results(folder: Path) -> dict[str, Any]:
    """Every file of a run by its name: weights, optimizer, log, sheets and export, to the bit."""
    root = folder / "runs" / "x"
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    found: dict[str, Any] = {
        name: state_of(path) if path.suffix == ".ckpt" else path.read_bytes()
        for name, path in files.items()
    }
    end = json.loads(found["finished.json"])
    end.pop("finished")
    return found | {"finished.json": end} | dict.fromkeys(OF_STARTS)


def state_of(checkpoint: Path) -> Any:
    """All of a checkpoint but one count of Lightning's, of validation batches made twice too."""
    state = AtomicCheckpointIO().load_checkpoint(checkpoint)
    state["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"].pop("total")
    return plain(state)


def plain(node: Any) -> Any:
    """Nested values with the bits of each tensor."""
    if isinstance(node, torch.Tensor):
        return str(node.dtype), tuple(node.shape), node.numpy().tobytes()
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    return [plain(value) for value in node] if isinstance(node, list | tuple) else node


def without_earlier_checkpoints(found: dict[str, Any]) -> dict[str, Any]:
    """The last alone: a stop saves between two that are due."""
    last = max(name for name in found if name.startswith("checkpoints/"))
    return {k: v for k, v in found.items() if not k.startswith("checkpoints/") or k == last}


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if LEFTOVER.fullmatch(path.name)]


def assert_checkpoints_whole(folder: Path) -> None:
    damages = {path: damage_of(path) for path in checkpoints_of(folder / "runs" / "x")}
    assert set(damages.values()) <= {None}, damages


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = begun(tmp_path_factory.mktemp("undisturbed") / "whole")
    assert run(folder, WORDS) == 0, (folder / SAID).read_text()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_call_that_changes_the_disk(
    undisturbed: Path, tmp_path: Path, when: str
) -> None:
    calls = calls_of(undisturbed)
    expected = results(undisturbed)
    left, different = 0, []
    for number in range(len(calls)):
        folder = begun(tmp_path / f"{number}")
        assert run(folder, WORDS, (number, when)) == -signal.SIGKILL
        assert len(calls_of(folder)) == number + 1
        assert_checkpoints_whole(folder)
        left += bool(leftovers(folder))
        assert run(folder, WORDS) == 0, (folder / SAID).read_text()
        assert leftovers(folder) == []
        found = results(folder)
        names = sorted(name for name in found | expected if found.get(name) != expected.get(name))
        different += [(number, *calls[number], names)] if names else []
        shutil.rmtree(folder)
    assert different == []
    kinds = Counter(name for name, _ in calls)
    print(f"killed {when} each of {len(calls)} calls ({kinds}); {left} times a file was left")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGUSR1"])
def test_ended_at_thirty_random_moments(undisturbed: Path, tmp_path: Path, name: str) -> None:
    draws = random.Random(0)
    expected = without_earlier_checkpoints(results(undisturbed))
    codes = {0, -signal.SIGKILL if name == "SIGKILL" else 143}
    states = Counter[int]()
    for number in range(30 if name == "SIGKILL" else 10):
        folder = begun(tmp_path / f"{number}")
        # From the first call on: before, Python's own handlers may be set.
        calls = draws.randrange(1, len(calls_of(undisturbed)))
        ended = ended_after(folder, WORDS, calls, draws.uniform(0.0, 0.1), signal.Signals[name])
        assert ended in codes, (folder / SAID).read_text()
        states[len(calls_of(folder))] += ended != 0
        assert_checkpoints_whole(folder)
        assert run(folder, WORDS) == 0, (folder / SAID).read_text()
        assert leftovers(folder) == []
        assert without_earlier_checkpoints(results(folder)) == expected
        shutil.rmtree(folder)
    print(f"{name}: {states.total()} times, after {len(states)} different numbers of calls")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_call_while_an_export_is_replaced(
    undisturbed: Path, tmp_path: Path, when: str
) -> None:
    earlier = begun(tmp_path / "earlier")
    assert run(earlier, [*WORDS, "--trainer.max_steps", "4"]) == 0
    (earlier / LOG).unlink()
    shutil.copytree(earlier, tmp_path / "whole")
    assert run(tmp_path / "whole", WORDS) == 0
    calls = calls_of(tmp_path / "whole")
    ends = [number for number, (_, path) in enumerate(calls) if "export" in path]
    for number in ends:
        folder = tmp_path / f"{number}"
        shutil.copytree(earlier, folder)
        assert run(folder, WORDS, (number, when)) == -signal.SIGKILL
        assert run(folder, WORDS) == 0, (folder / SAID).read_text()
        assert leftovers(folder) == []
        assert results(folder) == results(tmp_path / "whole")
        shutil.rmtree(folder)
    print(f"killed {when} each of {len(ends)} calls")
