"""One process of a node downloads; the others wait and read what it has put on disk."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dofsuite.backbones.hub import first_of_node


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of four processes that torchrun or Lightning started."""
    for name in ("SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "2222")
    return monkeypatch


def fetch(file: Path, barrier: threading.Barrier) -> tuple[bool, str]:
    """As a rank does: the lock is of the open file, so that threads stand for processes."""
    barrier.wait()
    with first_of_node("model") as is_first:
        if is_first:
            time.sleep(0.1)
            file.write_text("weights")
    return is_first, file.read_text()


def test_one_of_four_downloads_and_the_others_wait_for_it(
    several: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        ranks = list(pool.map(lambda _: fetch(tmp_path / "file", barrier), range(4)))
    assert sum(is_first for is_first, _ in ranks) == 1
    assert {content for _, content in ranks} == {"weights"}


def test_the_next_start_asks_again_and_another_part_has_a_first_of_its_own(
    several: pytest.MonkeyPatch,
) -> None:
    asked = []
    for port, what in (("2222", "unet"), ("2222", "unet"), ("2222", "vae"), ("2223", "unet")):
        several.setenv("MASTER_PORT", port)
        with first_of_node(what) as is_first:
            asked.append(is_first)
    assert asked == [True, False, True, True]


def test_after_a_failure_the_next_one_tries(several: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionError), first_of_node("model"):
        raise ConnectionError
    with first_of_node("model") as is_first:
        assert is_first


def test_a_process_on_its_own_waits_for_nobody(several: pytest.MonkeyPatch, tmp_path: Path) -> None:
    several.delenv("WORLD_SIZE")
    for _ in range(2):
        with first_of_node("model") as is_first:
            assert is_first
    assert not (tmp_path / "cache").exists()
