"""A disk that is full at any byte ends a run with one sentence; with more space it goes on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dofsuite.errors import UserError
from dofsuite.files import replace_folder
from dofsuite.training.run.folder import locked
from tests.training.run.kills import SAID, run
from tests.training.run.test_killed import WORDS, begun, leftovers, results

# One alone, so that the export is what needs more space last.
ONE_CHECKPOINT = [*WORDS, "--checkpoint.every_n_train_steps", "6"]


def mount(*words: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A run's place whose `runs` folder is a disk of 64 kB."""
    folder = begun(tmp_path / "small")
    (folder / "runs").mkdir()
    mount("-t", "tmpfs", "-o", "size=64k", "none", folder / "runs")
    yield folder
    subprocess.run(["umount", "--lazy", folder / "runs"], check=True)


def fill(disk: Path, name: str) -> Path:
    """Take all that is left of a disk."""
    path = disk / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    return path


def test_a_start_on_a_full_disk_says_so_and_leaves_no_folder(small_disk: Path) -> None:
    disk = small_disk / "runs"
    mine = fill(disk, "mine")
    with pytest.raises(UserError, match="the disk is full"), locked(disk / "x"):
        pass
    assert list(disk.iterdir()) == [mine]


def test_what_a_killed_start_has_left_does_not_fill_the_disk_for_the_next(small_disk: Path) -> None:
    disk = small_disk / "runs"
    with locked(disk / "x"):
        (disk / "x" / "metrics.jsonl").touch()
    (disk / "x" / ".lock").unlink()
    left = fill(disk, "x/checkpoints/.step-00000100.ckpt.tmp-999-0a1b2c3d")
    with locked(disk / "x"):
        assert not left.exists()


def test_an_export_that_the_disk_has_no_space_for_is_one_sentence(small_disk: Path) -> None:
    """Writers in Rust and C++ raise errors of their own."""
    weights = {"weight": torch.ones(50_000)}
    target = small_disk / "runs" / "export"
    replace_folder(target, lambda folder: (folder / "before").touch())
    for save in (save_file, torch.save):
        with pytest.raises(UserError, match="export: writing: the disk is full"):
            replace_folder(target, lambda folder, save=save: save(weights, folder / "weights"))
        assert [path.name for path in target.iterdir()] == ["before"]
        assert list(target.parent.iterdir()) == [target]


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_size(small_disk: Path, tmp_path: Path) -> None:
    whole = begun(tmp_path / "whole")
    assert run(whole, ONE_CHECKPOINT) == 0
    expected = results(whole)
    root = small_disk / "runs"
    where = []
    for size_kb in [*range(4, 40, 4), *range(266, 470, 24)]:
        shutil.rmtree(root / "x", ignore_errors=True)
        mount("-o", f"remount,size={size_kb}k", root)
        (small_disk / SAID).write_text("")
        code = run(small_disk, ONE_CHECKPOINT)
        said = (small_disk / SAID).read_text()
        where.append((size_kb, said.splitlines()[-1]))
        print(where[-1])
        if code == 0:
            break
        assert code == 2, said
        assert "Traceback" not in said
        assert "the disk is full; free some space" in said.splitlines()[-1]
        # With more space the same command goes on.
        mount("-o", "remount,size=4m", root)
        assert run(small_disk, ONE_CHECKPOINT) == 0
        assert leftovers(small_disk) == []
        assert results(small_disk) == expected
    assert code == 0
    assert results(small_disk) == expected
