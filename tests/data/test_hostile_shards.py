"""Shards that contradict their manifest, hostile files and a disk that fails: one sentence each."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dofsuite.curation.inputs import InputShard, Reader
from dofsuite.data.batch import decode_sample
from dofsuite.data.damage import SKIPPED_FILE, Damage, Skipped
from dofsuite.data.manifest import read_manifest, sha256_of, verify_shards
from dofsuite.data.module import ShardData
from dofsuite.data.shards import Sample, ShardReader, index_of
from dofsuite.errors import UserError

from .conftest import encoded, numbered_samples, write_numbered

DEEP = "[" * 100_000 + "]" * 100_000
# A file whose bytes at 0 the system cannot read: EIO, as of a failing disk.
UNREADABLE = Path("/proc/self/mem")


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    """End a test that hangs."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def rewrite(path: Path, change: Callable[[Any], object]) -> None:
    data = json.loads(path.read_bytes())
    changed = change(data)
    path.write_text(changed if isinstance(changed, str) else json.dumps(data))


def rewrite_index(folder: Path, change: Callable[[Any], object]) -> None:
    """Change shard 1's index, and give its manifest the new checksum."""
    path = folder / "shard-000001.index.json"
    rewrite(path, change)
    digest = sha256_of(path.read_bytes())
    rewrite(folder / "manifest.json", lambda data: data["shards"][1].update(index_sha256=digest))


def check(folder: Path) -> None:
    verify_shards(folder, read_manifest(folder))


@pytest.mark.parametrize("by", [-1, 1])
def test_a_count_that_is_not_the_shard_s_is_said_before_the_first_step(
    shards: Path, by: int
) -> None:
    def change(data: Any) -> None:
        data["shards"][1]["samples"] += by
        data["samples"] += by
        data["samples_with_depth"] += by

    rewrite(shards / "manifest.json", change)
    sentence = rf"shard-000001\.index\.json: it has 5 samples and the manifest {5 + by}"
    with pytest.raises(UserError, match=sentence):
        ShardData({"n": str(shards)}, batch_size=2, size_px=16).prepare_data()
    with pytest.raises(UserError, match=sentence):  # where only sizes were compared
        ShardReader(shards).read(6)


INDEXES: dict[str, Callable[[Any], object]] = {
    "before the tar": lambda index: index[2][1]["png"].__setitem__(0, -512),
    "behind the tar": lambda index: index[2][1]["png"].__setitem__(0, 2**20),
    "no offset of a file": lambda index: index[2][1]["png"].__setitem__(0, 10**30),
    "a size below 0": lambda index: index[2][1]["png"].__setitem__(1, -1),
    "a size in words": lambda index: index[2][1]["png"].__setitem__(1, "9"),
    "true as a size": lambda index: index[2][1]["png"].__setitem__(1, True),
    "no checksum": lambda index: index[2][1]["png"].__setitem__(2, None),
    "members in a list": lambda index: index[2].__setitem__(1, [1, 2]),
    "an object": lambda index: json.dumps({str(n): n for n in range(5)}),
    "numbers": lambda index: "[1, 2, 3, 4, 5]",
    "text": lambda index: "hello",
    "no JSON at all": lambda index: "",
    "nested": lambda index: DEEP,
}


@pytest.mark.parametrize("hostile", INDEXES)
def test_a_hostile_index_is_refused_before_a_byte_is_read(shards: Path, hostile: str) -> None:
    rewrite_index(shards, INDEXES[hostile])
    sentence = r"shard-000001\.index\.json: it is no index of a shard of \d+ bytes"
    with pytest.raises(UserError, match=sentence):
        check(shards)
    with pytest.raises(UserError, match=sentence):
        ShardReader(shards).read(7)


MANIFESTS: dict[str, Callable[[Any], object]] = {
    "nested too deep": lambda data: DEEP,
    "a shard is listed twice": lambda data: (
        data["shards"].append(data["shards"][0]),
        data.update(samples=28),
    ),
    "it counts more samples with something": lambda data: data.update(samples_with_depth=24),
    "with something than samples": lambda data: data.update(samples_with_exif=-1),
    "a count is no whole number": lambda data: data["shards"][0].update(samples=5.0),
    "is no whole number": lambda data: data["shards"][0].update(bytes="81920"),
}


@pytest.mark.parametrize("reason", MANIFESTS)
def test_a_manifest_that_cannot_be_is_refused(shards: Path, reason: str) -> None:
    rewrite(shards / "manifest.json", MANIFESTS[reason])
    with pytest.raises(UserError, match=rf"manifest\.json: it is not a manifest .*{reason}"):
        read_manifest(shards)


def header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """Return a tar header, whose size may be below 0 (base 256, as GNU tar writes large ones)."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = (256**12 + size).to_bytes(13)[1:] if size < 0 else b"%011o\0" % size
    if size >= 8**11:
        block[124:136] = b"\x80" + size.to_bytes(11)
    block[136:148] = b"%011o\0" % 0
    block[156:157], block[257:265] = kind, b"ustar\00000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(record: bytes) -> bytes:
    return header(b"pax", len(record), b"x") + record + bytes(-len(record) % 512)


TARS = {
    "a file that leads back": header(b"a.png", -512),
    "a nameless file that leads back": header(b"a", -512),
    "a long name that leads back": header(b"././@LongLink", -600, b"L"),
    "a long name of a terabyte": header(b"././@LongLink", 2**40, b"L"),
    "a pax header of an exabyte": header(b"pax", 2**60, b"x"),
    "a pax record of no length": pax(b"99999999999999999999 a=1\n") + header(b"a.png", 0),
    "a pax size below 0": pax(b"13 size=-512\n") + header(b"a.png", 0),
    "a broken map of holes": pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n")
    + header(b"a.png", 512)
    + b"3\n".ljust(512, b"\0"),
}


@pytest.mark.parametrize("hostile", TARS)
def test_a_hostile_tar_is_refused_at_once(shards: Path, tmp_path: Path, hostile: str) -> None:
    tar = tmp_path / "x.tar"
    tar.write_bytes(TARS[hostile] + (shards / "shard-000000.tar").read_bytes())
    with pytest.raises(UserError, match=r"x\.tar: it is no plain tar, or truncated"):
        index_of(tar)
    reader = Reader(InputShard("x", str(tar)))
    assert len(reader.entries) == 0
    assert reader.damage


def test_a_mask_of_another_size_than_its_image_is_named() -> None:
    members = numbered_samples(1, "n")[0][1]
    members["valid.png"] = encoded(np.full((8, 32), 255, np.uint8))
    sentence = r"^s\.tar: k\.valid\.png: the mask of valid depth is 32x8 px and its image 16x16 px"
    with pytest.raises(UserError, match=sentence):
        decode_sample(Sample("s.tar", "k", members), "disparity")


def test_metadata_that_is_nested_too_deep_is_named() -> None:
    members = numbered_samples(1, "n")[0][1] | {"json": f'{{"a": {DEEP}}}'.encode()}
    with pytest.raises(UserError, match=r"^s\.tar: k\.json: it is not JSON: nested too deep"):
        decode_sample(Sample("s.tar", "k", members), "disparity")


@pytest.mark.skipif(not UNREADABLE.exists(), reason="no /proc here")
@pytest.mark.parametrize("name", ["manifest.json", "shard-000001.index.json", "shard-000001.tar"])
def test_a_disk_that_cannot_read_is_one_sentence(shards: Path, name: str) -> None:
    reader, manifest = ShardReader(shards), read_manifest(shards)
    (shards / name).unlink()
    (shards / name).symlink_to(UNREADABLE)
    sentence = rf"{name.replace('.', '[.]')}: it cannot be read \(Input/output error\); check its"
    # Every way in which the file is read
    readings = {
        "manifest.json": [lambda: read_manifest(shards)],
        "shard-000001.index.json": [
            lambda: reader.read(7),
            lambda: verify_shards(shards, manifest),
        ],
        "shard-000001.tar": [lambda: reader.read(7), lambda: index_of(shards / name)],
    }
    for read in readings[name]:
        with pytest.raises(UserError, match=sentence):
            read()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's files need root")
@pytest.mark.parametrize(
    "name", ["", "manifest.json", "shard-000001.index.json", "shard-000001.tar"]
)
def test_a_file_of_another_user_is_one_sentence(name: str) -> None:
    # A folder that everybody may look into, as pytest's are not
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shards = write_numbered(Path(folder) / "shards", 23)
        os.chmod(shards / name, 0)
        os.seteuid(65534)
        try:
            with pytest.raises(UserError, match=rf"{name}.*: it cannot be read \(Permission den"):
                check(shards)
        finally:
            os.seteuid(0)


def test_a_shard_that_fails_while_training_counts_as_damaged(shards: Path) -> None:
    """Sample for sample, each once, and the run goes on where that was allowed."""
    data = ShardData({"n": str(shards)}, batch_size=1, size_px=16, flip=0.0, skip_damaged=5)
    loader = data.train_dataloader()
    (shards / "shard-000001.tar").unlink()
    (shards / "shard-000001.tar").symlink_to(UNREADABLE)
    keys = {batch.key[0] for batch in loader}
    assert keys == {f"n{number:06d}" for number in range(23) if number not in range(5, 10)}
    assert {each.number for each in data.damage.skipped.values()} == set(range(5, 10))


def test_a_record_of_skipped_samples_that_a_crash_cut_short_is_read_and_gone_on_with(
    tmp_path: Path,
) -> None:
    first, second = (Skipped(n, 0, n, "x") for n in (1, 2))
    damage = Damage(5)
    damage.open(tmp_path, 0)
    damage.add(first)
    with open(tmp_path / SKIPPED_FILE, "a") as file:
        file.write('{"rank": 0, "posi')
    for expected in ({(0, 1), (0, 2)}, {(0, 1), (0, 2)}):
        damage = Damage(5)
        damage.open(tmp_path, 0)
        damage.add(second)
        assert damage.skipped.keys() == expected
    assert len((tmp_path / SKIPPED_FILE).read_text().splitlines()) == 3


def test_a_cache_of_checks_that_is_nested_too_deep_is_none(shards: Path) -> None:
    (shards / ".verified.json").write_text(DEEP)
    check(shards)
