"""A run's folder is its own: nothing of the user's is touched, and nobody else writes in it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from dofsuite.data.manifest import Manifest, ShardEntry
from dofsuite.errors import UserError
from dofsuite.experiment.keys import ProvidedKeys
from dofsuite.experiment.shards_of_run import check_same_shards, record_shards
from dofsuite.files import replace_folder
from dofsuite.fit import main
from dofsuite.training.run.folder import MARKER, held, locked, wait_for_first_rank
from tests.data.conftest import write_numbered
from tests.tiny_runs import EXPERIMENT

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    Path("x.yaml").write_text(yaml.safe_dump(EXPERIMENT))


def fit(*words: str) -> int:
    short = ["--trainer.max_steps", "2"] if "--trainer.max_steps" not in words else []
    return main(["x.yaml", *words, *short, "--allow-import", "tests"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize("files", [["export/mine.txt", "config.yaml"], ["photo.jpg"], [".lock"]])
def test_a_folder_of_the_user_s_is_refused_and_not_touched(
    files: list[str], capsys: pytest.CaptureFixture
) -> None:
    mine = Path("mine")
    for name in files:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text("mine: all of it")
    before = contents(mine)
    assert fit("--trainer.default_root_dir", "mine") == 2
    assert contents(mine) == before
    said = capsys.readouterr().err
    assert said.startswith("mine: holds ")
    assert said.endswith("name a new one with --trainer.default_root_dir.\n")


def test_an_empty_folder_is_taken_and_an_old_run_without_the_marker_goes_on() -> None:
    Path("runs/x").mkdir(parents=True)
    assert fit() == 0
    (Path("runs/x") / MARKER).unlink()
    assert fit("--trainer.max_steps", "3") == 0
    assert json.loads(Path("runs/x/finished.json").read_text())["step"] == 3
    assert (Path("runs/x") / MARKER).is_file()


def test_a_finished_run_without_checkpoints_is_compared_and_never_trained_anew(
    capsys: pytest.CaptureFixture,
) -> None:
    assert fit() == 0
    shutil.rmtree("runs/x/checkpoints")
    before = contents(Path("runs/x"))
    capsys.readouterr()
    assert fit() == 0
    assert "finished at step 2" in capsys.readouterr().out
    assert fit("--model.schedule.learning_rate", "0.5") == 2
    assert "learning_rate: 0.5, but the run in runs/x was begun with" in capsys.readouterr().err
    assert fit("--trainer.max_steps", "3") == 2
    assert "its checkpoints are gone" in capsys.readouterr().err
    after = contents(Path("runs/x"))
    assert {name: after[name] for name in before if ".lock" not in name} == {
        name: data for name, data in before.items() if ".lock" not in name
    }


def test_a_deleted_export_is_made_again() -> None:
    assert fit() == 0
    before = contents(Path("runs/x/export"))
    shutil.rmtree("runs/x/export")
    assert fit() == 0
    assert contents(Path("runs/x/export")) == before


def test_what_killed_starts_have_left_is_swept_and_nothing_else() -> None:
    assert fit() == 0
    folder = Path("runs/x")
    left = [
        folder / "checkpoints" / ".step-00000002.ckpt.tmp-999-0a1b2c3d",
        folder / ".metrics.json.tmp-1-00000000",
        folder / ".export.old-7-deadbeef" / "layers.pt",
        folder / "checkpoints" / ".step-00000004.ckpt.partial" / "part",
    ]
    kept = [folder / ".mine.tmp", folder / "checkpoints" / "mine.tmp-1-00000000", folder / ".old"]
    for path in (*left, *kept):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert fit() == 0
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_start_that_was_killed_while_it_claimed_its_folder_does_not_lock_it_out() -> None:
    folder = Path("runs/x")
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    left = [folder / f".{name}.tmp-999-0a1b2c3d" for name in (MARKER, ".refused")]
    for path in left:
        path.write_text("A run of")
    assert fit() == 0
    assert not any(path.exists() for path in left)


def holder(folder: Path, then: str) -> subprocess.Popen:
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from dofsuite.training.run.folder import locked\n"
        f"with locked(Path({str(folder)!r})):\n"
        f"    {then}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_children_of_a_killed_run_do_not_keep_its_folder(tmp_path: Path) -> None:
    """As the workers of a data loader, which notice only after seconds that their parent died."""
    forks = "child = os.fork() or time.sleep(20) or 1; print(child, flush=True); os._exit(9)"
    killed = holder(tmp_path / "run", forks)
    child = int(killed.stdout.readline())
    killed.wait()
    began = time.monotonic()
    try:
        with locked(tmp_path / "run"):
            os.kill(child, 0)  # it is still there
    finally:
        os.kill(child, 9)
    assert time.monotonic() - began < 3


def test_a_removed_lock_file_does_not_let_a_second_process_in(tmp_path: Path) -> None:
    first = holder(tmp_path / "run", "print('held', flush=True); time.sleep(30)")
    assert first.stdout.readline() == "held\n"
    (tmp_path / "run" / ".lock").unlink()
    try:
        with pytest.raises(UserError, match="another process"), locked(tmp_path / "run"):
            pass
    finally:
        first.kill()


@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_folder_that_is_removed_while_it_is_locked_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made_again: bool
) -> None:
    folder, lock = tmp_path / "run", fcntl.flock

    def too_late(descriptor: int, operation: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if is_made_again:
            folder.mkdir()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(UserError, match="has just removed this folder"), locked(folder):
        pass


def test_a_file_system_without_locks_is_said_once_and_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def without_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    assert fit() == 0
    line = "runs/x: this file system locks no files: start no second process here.\n"
    assert capsys.readouterr().out.count(line) == 1


def test_a_damaged_checkpoint_of_the_run_that_is_continued_stays_as_it_is(
    capsys: pytest.CaptureFixture,
) -> None:
    """It may be another user's, whose run goes on from it."""
    every = ("--checkpoint.every_n_train_steps", "1")
    assert fit(*every) == 0
    damaged = Path("runs/x/checkpoints/step-00000002.ckpt")
    damaged.write_bytes(damaged.read_bytes()[:-10])
    before = contents(Path("runs/x"))
    Path("y.yaml").write_text(yaml.safe_dump(EXPERIMENT | {"continue_from": "runs/x"}))
    capsys.readouterr()
    assert main(["y.yaml", "--trainer.max_steps", "2", *every, "--allow-import", "tests"]) == 0
    said = capsys.readouterr().out
    assert f"{damaged}: damaged" in said
    assert "left as it is" in said
    assert "runs/y: continuing runs/x/checkpoints/step-00000001.ckpt." in said
    assert contents(Path("runs/x")) == before


def test_a_refusal_of_the_first_rank_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    first = holder(folder, "print('held', flush=True); time.sleep(30)")
    assert first.stdout.readline() == "held\n"
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="has not taken the run folder"):
        wait_for_first_rank(folder, patience_s=0)
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(UserError, match="another process"), held(folder):
        pass
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(UserError, match="another process"), held(folder):
        pass
    # Once it holds the folder the others go on.
    first.kill()
    first.wait()
    monkeypatch.setenv("SLURM_PROCID", "0")
    with locked(folder):
        monkeypatch.setenv("SLURM_PROCID", "1")
        with held(folder):
            pass


def save_manifest(folder: Path, checksum: str) -> None:
    shards = (ShardEntry("a", 1, 1, checksum, checksum),)
    manifest = Manifest("x", "CC0", "train", None, None, 1, 0, shards)
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest)))


@pytest.mark.parametrize("kind", ["folder", "remote"])
def test_other_shards_at_the_same_place_are_another_run(kind: str, tmp_path: Path) -> None:
    place = "shards" if kind == "folder" else f"file://{tmp_path}/shards"
    data = {"train": {"photo": place}, "val": "synthetic:val", "remote": {"tries": 1}}
    config = {"data": {"init_args": data}}
    sources = (ProvidedKeys("x.yaml", ("data.init_args.train.photo",), as_option=False),)
    run = Path("run")
    run.mkdir()
    save_manifest(Path("shards"), "0" * 64)
    record_shards(config, run, is_begun=False)
    check_same_shards(sources, config, run)
    save_manifest(Path("shards"), "1" * 64)
    record_shards(config, run, is_begun=True)  # which never replaces what was recorded
    with pytest.raises(UserError, match=r"x\.yaml: data.*: its shards are not those"):
        check_same_shards(sources, config, run)
    # Before the first checkpoint nothing was trained on the others
    record_shards(config, run, is_begun=False)
    check_same_shards(sources, config, run)


def test_a_run_on_a_remote_set_notices_that_it_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path / "cache"))
    place = write_numbered(tmp_path / "set", 8)
    content = yaml.safe_load(Path("x.yaml").read_text())
    content["model"] = {"class_path": "tests.data.tiny_run.Recorder"}
    content["data"] = {
        "class_path": "dofsuite.data.ShardData",
        "init_args": {"train": {"n": f"file://{place}"}, "batch_size": 2, "size_px": 16},
    }
    Path("x.yaml").write_text(yaml.safe_dump(content))
    assert fit() == 0
    # The same samples in other shards, under the same address
    shutil.rmtree(place)
    write_numbered(place, 8, samples_per_shard=4)
    capsys.readouterr()
    assert fit() == 0  # nothing is left to do, and nothing is read
    assert fit("--trainer.max_steps", "3") == 2
    assert "data.init_args.train.n: its shards are not those" in capsys.readouterr().err
    shutil.rmtree(place)
    write_numbered(place, 8)
    assert fit("--trainer.max_steps", "3") == 0


def test_an_export_is_on_disk_before_its_run_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, Path]] = []
    fsync, rename = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        done.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def renamed(old: Path, new: Path) -> None:
        done.append(("rename", Path(new)))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    assert fit() == 0
    # Files, the export's name, the run folder's entry of it, and only then that it is finished.
    names = [(what, path.name) for what, path in done]
    named = names.index(("rename", "export"))
    finished = names.index(("rename", "finished.json"))
    assert names.index(("flush", "layers.pt")) < named < finished
    assert ("flush", "x") in names[named:finished]


def test_an_export_can_be_read_by_who_can_read_its_folder(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        save_file({"weight": torch.ones(3)}, folder / "weight.safetensors")

    umask = os.umask(0o027)
    try:
        replace_folder(tmp_path / "export", fill)
    finally:
        os.umask(umask)
    assert (tmp_path / "export/weight.safetensors").stat().st_mode & 0o777 == 0o640


def test_files_of_a_folder_are_on_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda *two: done.append("renamed") or rename(*two))
    replace_folder(tmp_path / "export", lambda folder: (folder / "weights").write_text("1"))
    assert done.index("weights") < done.index("renamed")
