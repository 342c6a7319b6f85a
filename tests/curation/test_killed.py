"""Killed anywhere and started again, or done by several: the shards of one process, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time

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
