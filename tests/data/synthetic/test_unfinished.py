"""A synthetic set survives kills and processes that write it at the same time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from dofsuite.data.manifest import read_manifest
from dofsuite.data.shards import ShardReader
from dofsuite.data.synthetic import sets
from dofsuite.data.synthetic.captioned_sets import captioned_samples, exposed_scenes
from dofsuite.data.synthetic.defocus import BATCH_SIZE
from dofsuite.data.synthetic.sets import SAMPLES_PER_SHARD, prepare, resolve
from dofsuite.data.synthetic.unfinished import LEFT_AFTER_S, unfinished, unfinished_folder
from dofsuite.errors import UserError
from dofsuite.files import claimed, clear_leftovers, held_sibling

FORK = multiprocessing.get_context("fork")
VAL = "synthetic:val"


@pytest.fixture(autouse=True)
def _small_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of eight of the 64 scenes, in a cache of the test's own."""
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path))
    monkeypatch.setattr(sets, "SAMPLES_PER_SHARD", 8)


def until(is_so: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_killed_process_loses_no_whole_shard(
    synthetic_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = resolve(VAL)
    process = FORK.Process(target=prepare, args=(VAL,))
    process.start()
    until((unfinished_folder(path) / "shard-000001.tar").exists)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    written = {
        tar.name: tar.stat().st_mtime_ns for tar in unfinished_folder(path).glob("shard-*.tar")
    }
    (unfinished_folder(path) / ".shard-000009.tar.tmp-7-00c0ffee").write_bytes(b"half")
    assert not path.exists()
    assert 2 <= len(written) < 8
    capsys.readouterr()

    # The next start goes on, and says how far it is
    prepare(VAL)
    assert {name: (path / name).stat().st_mtime_ns for name in written} == written
    first = capsys.readouterr().err.splitlines()[1]
    assert first == f"dofsuite: {VAL}: {8 * len(written) + 8} of 64 samples"
    names = {f"shard-{n:06d}{ending}" for n in range(8) for ending in (".tar", ".index.json")}
    assert {each.name for each in path.iterdir()} == {*names, "manifest.json", ".verified.json"}

    # What was written by two processes is what one writes
    whole = ShardReader(synthetic_cache / path.relative_to(path.parents[1]))
    parts = ShardReader(path)
    assert [parts.read(n)[1:] for n in range(64)] == [whole.read(n)[1:] for n in range(64)]
    counts = ("samples", "samples_with_depth", "samples_with_caption", "samples_with_exif")
    assert [getattr(parts.manifest, name) for name in counts] == [
        getattr(whole.manifest, name) for name in counts
    ]


def test_a_shard_that_was_damaged_meanwhile_is_written_again() -> None:
    path = resolve(VAL)
    prepare(VAL)
    folder = path.rename(unfinished_folder(path))
    with open(folder / "shard-000003.tar", "r+b") as file:
        file.seek(3000)
        file.write(bytes(64))
    prepare(VAL)
    reader = ShardReader(path)
    assert [reader.read(n).key for n in range(64)] == [f"val{n:06d}" for n in range(64)]


def test_scenes_of_a_later_shard_are_those_of_a_whole_set() -> None:
    for name in ("shallow_val", "deep"):
        whole = [(s.caption, s.things, e) for s, e in islice(exposed_scenes(name), 40, 44)]
        later = [(s.caption, s.things, e) for s, e in islice(exposed_scenes(name, 40), 4)]
        assert later == whole
    assert next(captioned_samples("deep", "x", 40))[0] == "deep000040"
    # and are photographed in the same batches
    assert SAMPLES_PER_SHARD % BATCH_SIZE == 0


def prepared(pid: int) -> None:
    os.getpid = lambda: pid
    prepare(VAL)


def test_two_containers_of_one_process_id_write_a_set_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    both = [FORK.Process(target=prepared, args=(7,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    path, said = resolve(VAL), capfd.readouterr().err
    assert [each.name for each in path.parent.iterdir()] == ["val"]
    assert read_manifest(path).samples == 64
    assert said.count("64 of 64 samples") == said.count("writing synthetic:val") == 1
    assert said.count(f"dofsuite: {path}: another process writes it; waiting") == 1


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder of `set` that another process is writing."""

    def hold() -> None:
        with held_sibling(tmp_path / "set"):
            signal.pause()

    process = FORK.Process(target=hold)
    process.start()
    until(lambda: list(tmp_path.glob(".set.tmp-*")))
    time.sleep(0.05)
    yield next(tmp_path.glob(".set.tmp-*"))
    if process.is_alive():
        process.kill()
    process.join()


def test_what_another_process_writes_is_no_leftover(holder: Path) -> None:
    other = holder.with_name(".set.tmp-0-00000000x")
    other.mkdir()
    clear_leftovers(holder.with_name("set"))
    assert holder.is_dir()
    assert other.is_dir()  # a name of somebody else's


def test_what_a_killed_process_has_left_is_deleted(holder: Path) -> None:
    (holder / "file").write_text("")
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    clear_leftovers(holder.with_name("set"))
    assert not holder.exists()


def test_an_unfinished_set_of_another_machine_is_left_for_a_day(tmp_path: Path) -> None:
    others = [tmp_path / f".set.unfinished-{number:012d}" for number in range(2)]
    for other, age_s in zip(others, (60.0, LEFT_AFTER_S + 60), strict=True):
        other.mkdir()
        (other / "file").write_text("")
        for each in (other / "file", other):
            os.utime(each, (time.time() - age_s,) * 2)
    with unfinished(tmp_path / "set") as folder:
        assert folder is not None
        (folder / "file").write_text("")
    assert [other.exists() for other in others] == [True, False]
    assert (tmp_path / "set" / "file").exists()


def test_a_folder_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "x"),
        pytest.raises(UserError, match="x: another process writes here: wait for it"),
        claimed(tmp_path / "x"),
    ):
        pass
    with claimed(tmp_path / "x"):
        assert [each.name for each in (tmp_path / "x").iterdir()] == [".lock"]
    assert list((tmp_path / "x").iterdir()) == []
