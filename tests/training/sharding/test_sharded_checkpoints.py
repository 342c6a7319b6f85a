"""Checkpoints in parts hold what one in a file holds, bit for bit, for any number of ranks."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from dofsuite.errors import UserError
from dofsuite.training import FullySharded, newest_checkpoint
from dofsuite.training.checkpoints.__main__ import main
from dofsuite.training.checkpoints.io import read_checkpoint
from dofsuite.training.checkpoints.resume import checkpoint_path, checkpoints_of, damage_of
from dofsuite.training.checkpoints.sharded import read_index
from tests.training.sharding.tiny_sharded import train

ROOT = Path(__file__).parents[3]
PARTS = ("state_dict", "optimizer_states")

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Weights and optimizer states are equal bit for bit."""
    for part in PARTS:
        torch.testing.assert_close(one[part], other[part], rtol=0, atol=0)


# --- one rank ---


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch: pytest.MonkeyPatch):
    """Leave no process group and no launcher's environment behind."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """The folder of a run of two steps that wrote in parts while it trained."""
    train(tmp_path / "run", 2, strategy=FullySharded(checkpoints="sharded_async"))
    return tmp_path / "run"


def test_parts_hold_what_a_file_of_a_plain_run_holds(tmp_path: Path, sharded: Path) -> None:
    train(tmp_path / "plain", 2)
    assert len(checkpoints_of(sharded)) == 2
    # The first one was written while the second step changed the weights.
    for step in (1, 2):
        plain = read_checkpoint(checkpoint_path(tmp_path / "plain", step))
        parts = read_checkpoint(checkpoint_path(sharded, step))
        assert parts.keys() == plain.keys()
        assert_same(parts, plain)


def test_a_run_without_shards_resumes_from_parts(tmp_path: Path, sharded: Path) -> None:
    start = checkpoint_path(sharded, 2)
    train(tmp_path / "resumed", 3, start)
    assert_same(torch.load(tmp_path / "resumed" / "loaded.pt"), read_checkpoint(start))


def test_parts_become_one_file_that_torch_reads(
    tmp_path: Path, sharded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, file = checkpoint_path(sharded, 2), tmp_path / "one.ckpt"
    assert main([str(start), "-o", str(file)]) == 0
    assert_same(torch.load(file, weights_only=True), read_checkpoint(start))
    # What exists is not overwritten.
    assert main([str(start), "-o", str(file)]) == 2
    assert "there already" in capsys.readouterr().err


def test_every_kind_of_damage_to_parts_is_passed_over(sharded: Path) -> None:
    first, second = (checkpoint_path(sharded, step) for step in (1, 2))
    (part,) = second.glob("*.distcp")
    content = part.read_bytes()
    for damage in (content[:-10], b"", None):
        part.unlink() if damage is None else part.write_bytes(damage)
        assert "missing or cut" in str(damage_of(second))
    part.write_bytes(content)
    assert damage_of(second) is None
    (second / "rest.ckpt").unlink()
    said: list[str] = []
    assert newest_checkpoint(sharded, said.append) == first
    assert len(said) == 1


def test_an_index_that_would_run_code_is_refused(sharded: Path) -> None:
    path = checkpoint_path(sharded, 2)
    (path / ".metadata").write_bytes(pickle.dumps(os.getcwd))
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.getcwd has no place"):
        read_index(path)
    with pytest.raises(UserError, match=r"damaged \(index: posix\.getcwd"):
        read_checkpoint(path)


def test_a_disk_that_takes_no_more_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file lies where the folder should be")
    with pytest.raises(UserError, match="a file lies where a folder is needed"):
        train(tmp_path, 1, strategy=FullySharded(checkpoints="sharded"))


@pytest.mark.parametrize("options", [{"timeout_minutes": 0}, {"replicas": 0}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="timeout_minutes must be above 0, replicas 1 or more"):
        FullySharded(**options)


# --- several ranks ---


def on_ranks(
    folder: Path,
    devices: int,
    steps: int,
    resume: Path | None = None,
    kill: bool = False,
    **options,
) -> int:
    """Train on gloo ranks, each a process; return the exit code."""
    task = {"folder": str(folder), "steps": steps, "resume": resume and str(resume), "kill": kill}
    task |= {"devices": devices, "strategy": options}
    run = subprocess.run(
        [sys.executable, "-m", "tests.training.sharding.tiny_sharded", json.dumps(task)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert kill or run.returncode == 0, run.stderr[-3000:]
    return run.returncode


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints that two ranks saved, in parts and as a file."""
    folder = tmp_path_factory.mktemp("two")
    for kind in ("whole", "sharded_async"):
        on_ranks(folder / kind, 2, 2, checkpoints=kind)
    return {kind: checkpoint_path(folder / kind, 2) for kind in ("whole", "sharded_async")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "sharded_async"])
@pytest.mark.parametrize("devices", [1, 3])
def test_saved_on_two_ranks_and_resumed_on_others(
    of_two: dict[str, Path], tmp_path: Path, kind: str, devices: int
) -> None:
    assert len(list(of_two["sharded_async"].glob("*.distcp"))) == 2
    assert_same(read_checkpoint(of_two["sharded_async"]), read_checkpoint(of_two["whole"]))
    on_ranks(tmp_path, devices, 3, of_two[kind], checkpoints="sharded")
    assert_same(torch.load(tmp_path / "loaded.pt"), read_checkpoint(of_two["whole"]))
    saved = checkpoint_path(tmp_path, 3)
    assert len(list(saved.glob("*.distcp"))) == devices
    assert damage_of(saved) is None


@pytest.mark.slow
def test_a_kill_in_the_middle_of_writing_leaves_the_last_whole_one(tmp_path: Path) -> None:
    code = on_ranks(tmp_path, 2, 4, kill=True, checkpoints="sharded_async", timeout_minutes=5)
    assert code != 0
    folder = tmp_path / "checkpoints"
    partial = ".step-00000002.ckpt.partial"
    assert sorted(os.listdir(folder)) == [partial, "step-00000001.ckpt"]
    assert any((folder / partial).iterdir())
    start = newest_checkpoint(tmp_path)
    assert start == checkpoint_path(tmp_path, 1)
    # The next start goes on from it, and takes what was left away.
    on_ranks(tmp_path, 2, 3, start, checkpoints="sharded_async")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert newest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 3)


@pytest.mark.slow
def test_two_replicas_of_two_shards_train_as_two_shards(
    of_two: dict[str, Path], tmp_path: Path
) -> None:
    on_ranks(tmp_path, 4, 2, checkpoints="sharded", replicas=2)
    saved = checkpoint_path(tmp_path, 2)
    ours, theirs = read_checkpoint(saved), read_checkpoint(of_two["whole"])
    for part in PARTS:
        torch.testing.assert_close(ours[part], theirs[part])
    on_ranks(tmp_path / "resumed", 1, 3, saved, checkpoints="whole")
    assert_same(torch.load(tmp_path / "resumed" / "loaded.pt"), ours)
