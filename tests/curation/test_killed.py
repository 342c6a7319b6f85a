"""Killed anywhere and started again, or done by several: the shards of one process, bit for bit."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.curation.conftest import curate, results
from tests.curation.photographs import DEEP, SHALLOW, jpeg

ANSWERS = ("--without", "blur", "photograph", "--captioner", "none")
OPTIONS = (*ANSWERS, "--threshold", "min_side_px=48", "--test-share", "0.1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """2,000 pictures, every tenth a copy."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    folder.mkdir()
    for number in range(2000):
        camera = (SHALLOW, DEEP, None, {"f_number": 64.0})[number % 4]
        data = jpeg(number - 4 if number % 40 == 39 else number, camera)
        (folder / f"{number:04d}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def alone(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("alone") / "out"
    assert curate(photos, "-o", output, *OPTIONS, "--images-per-input", 100) == 0
    return results(output)


@pytest.mark.slow
def test_two_workers_and_an_array_of_four_give_the_shards_of_one(photos, alone, tmp_path):
    words = (*OPTIONS, "--images-per-input", 100)
    assert curate(photos, "-o", tmp_path / "two", *words, "--workers", 2) == 0
    assert results(tmp_path / "two") == alone
    for stage in ("map", "merge", "write"):
        for part in range(4 if stage != "merge" else 1):
            given = ("--stage", stage, "--part", f"{part}/4") if stage != "merge" else ()
            given = given or ("--stage", "merge")
            assert curate(photos, "-o", tmp_path / "array", *words, *given) == 0
    assert results(tmp_path / "array") == alone


@pytest.mark.slow
def test_killed_fifty_times_at_random_the_shards_are_the_same(photos, alone, tmp_path):
    draws = random.Random(0)
    words = (photos, "-o", tmp_path / "out", *OPTIONS, "--images-per-input", 100)
    # How long a whole run takes here
    started = time.perf_counter()
    assert curate(photos, "-o", tmp_path / "timed", *words[3:]) == 0
    whole_s = time.perf_counter() - started

    killed = 0
    states = set()
    for _ in range(400):
        child = os.fork()
        if not child:
            os._exit(curate(*words))
        time.sleep(draws.uniform(0, whole_s / 15))
        ended, _status = os.waitpid(child, os.WNOHANG)
        if ended:  # done already: take some of it away, so that there is something to kill
            for path in draws.sample(sorted((tmp_path / "out").glob("*/*/shard-*.tar")), 2):
                record = path.parent.parent.name + "-" + path.parent.name + path.stem[5:]
                (tmp_path / "out" / "done" / f"{record}.json").unlink()
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1
        made = results(tmp_path / "out") if (tmp_path / "out").exists() else {}
        states.add(len([name for name in made if not os.path.basename(name).startswith(".")]))
        # What is there under its final name is what will be there
        assert {n: d for n, d in made.items() if n.endswith((".tar", ".index.json"))}.items() <= (
            alone.items()
        )
        if killed == 50:
            break
    assert killed == 50
    assert curate(*words) == 0
    found = {n: d for n, d in results(tmp_path / "out").items() if ".tmp-" not in n}
    assert found == alone
    print(f"killed 50 times, in {len(states)} different states; a whole run takes {whole_s:.1f} s")


def descendants() -> dict[int, str]:
    """Command lines of the processes that descend from this one."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid, stat = int(folder.name), (folder / "stat").read_text()
            parents[pid] = int(stat.rpartition(")")[2].split()[1])
            names[pid] = (folder / "cmdline").read_text()

    def is_mine(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return {pid: name for pid, name in names.items() if is_mine(pid)}


def wait_for(found: Callable[[], list], for_s: float = 120) -> list:
    deadline = time.monotonic() + for_s
    while not (there := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return there


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["map", "write"])
def test_one_of_two_workers_killed_ends_with_a_sentence_and_the_restart_gives_the_shards(
    photos, alone, tmp_path, stage
):
    output = tmp_path / "out"
    words = (photos, "-o", output, *OPTIONS, "--images-per-input", 100)
    if stage == "write":
        for before in ("map", "merge"):
            assert curate(*words, "--stage", before) == 0
    command = [sys.executable, "-m", "dofsuite.curate", *map(str, words), "--workers", "2"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    # In the middle of the stage
    made = {"map": "verdicts/*.jsonl", "write": "done/*.json"}[stage]
    wait_for(lambda: list(output.glob(made)))
    workers = [pid for pid, name in descendants().items() if "spawn_main" in name]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    said = running.communicate(timeout=120)[1]
    assert running.returncode == 2
    sentences = [line for line in said.splitlines() if "it/s]" not in line and line.strip()]
    assert len(sentences) == 1
    assert "a worker ended before its work was done (killed, or out of memory)" in said
    assert results(output) != alone
    # No worker is left, and the same command goes on
    assert not [pid for pid, name in descendants().items() if "spawn_main" in name]
    assert curate(*words, "--workers", 2) == 0
    found = {n: d for n, d in results(output).items() if ".tmp-" not in n}
    assert found == alone


def busy_ray_workers() -> list[int]:
    return [pid for pid, name in descendants().items() if name.startswith("ray::Map")]


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="Ray (the extra `scale`) is not installed"
)
@pytest.mark.parametrize("kills", [0, 3])
def test_local_ray_gives_the_shards_of_one_process_workers_killed_or_not(
    photos, alone, tmp_path, kills
):
    killed: list[str] = []

    def kill_some() -> None:
        for _ in range(kills):
            pid = random.Random(len(killed)).choice(wait_for(busy_ray_workers))
            killed.append(descendants().get(pid, ""))
            os.kill(pid, signal.SIGKILL)
            time.sleep(2)

    killing = threading.Thread(target=kill_some)
    killing.start()
    words = (*OPTIONS, "--images-per-input", 100)
    assert curate(photos, "-o", tmp_path / "ray", *words, "--ray") == 0
    killing.join()
    assert len(killed) == kills
    found = {n: d for n, d in results(tmp_path / "ray").items() if ".tmp-" not in n}
    assert found == alone
    print(f"killed: {', '.join(killed)}")
