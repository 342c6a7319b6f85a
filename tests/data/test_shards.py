"""Shards are plain tars, and one that is not whole is named and refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset
from pytorch_lightning import LightningModule, Trainer

from dofsuite.data.manifest import VERIFIED_FILE, read_manifest, verify_shards
from dofsuite.data.module import ShardData
from dofsuite.data.shard_files import MAX_OPEN_SHARDS
from dofsuite.data.shards import ShardReader, ShardWriter, index_of, new_folder
from dofsuite.data.synthetic.sets import prepare
from dofsuite.errors import UserError


def check(folder: Path) -> None:
    verify_shards(folder, read_manifest(folder))


def test_shards_are_read_alike_by_webdataset_by_tarfile_and_by_offset(shards: Path) -> None:
    reader = ShardReader(shards)
    tars = sorted(str(path) for path in shards.glob("*.tar"))
    streamed = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len(tars) == 5
    assert len(reader) == len(streamed) == 23
    for number, other in enumerate(streamed):
        sample = reader.read(number)
        assert sample.key == other["__key__"]
        assert sample.members == {e: other[e] for e in ("png", "depth.png", "json")}
    with tarfile.open(tars[1]) as tar:
        assert tar.extractfile("n000005.json").read() == reader.read(5).members["json"]


def test_two_writings_give_the_same_bytes(shards: Path, tmp_path: Path) -> None:
    with new_folder(tmp_path / "again") as folder, ShardWriter(folder, 5) as writer:
        reader = ShardReader(shards)
        for number in range(len(reader)):
            writer.add(*reader.read(number)[1:])
        writer.close(
            source="n", licence="CC0", split="train", depth_kind="disparity", depth_unit="relative"
        )
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (shards / path.name).read_bytes()
    assert not list(tmp_path.glob(".*"))


def cut_points(shard: Path) -> dict[str, int]:
    """Return four places to cut a tar: those that webdataset does not notice, and one inside a
    member.
    """
    _, members = index_of(shard)[2]
    offset, size, _ = members["depth.png"]
    return {
        "at a member boundary": offset - 512,
        "inside a header": offset - 300,
        "inside a member": offset + size // 2,
        "before the end marker": shard.stat().st_size - 10240,
    }


@pytest.mark.parametrize(
    "place", ["at a member boundary", "inside a header", "inside a member", "before the end marker"]
)
def test_truncated_shard_is_named(shards: Path, place: str) -> None:
    shard = shards / "shard-000001.tar"
    os.truncate(shard, cut_points(shard)[place])
    with pytest.raises(UserError, match=r"shard-000001\.tar: the shard is truncated"):
        check(shards)


def alter(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def test_altered_byte_is_named_at_the_start(shards: Path) -> None:
    check(shards)
    alter(shards / "shard-000002.tar", 1500)
    with pytest.raises(UserError, match=r"shard-000002\.tar: the file was altered"):
        check(shards)


def test_altered_byte_is_named_on_reading_when_the_start_could_not_see_it(shards: Path) -> None:
    check(shards)
    shard = shards / "shard-000002.tar"
    stamp = shard.stat()
    alter(shard, index_of(shard)[1][1]["png"][0] + 20)
    os.utime(shard, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    check(shards)  # size and time are as remembered: nothing is read again
    with pytest.raises(
        UserError, match=r"shard-000002\.tar: n000011\.png: it is truncated or altered"
    ):
        ShardReader(shards).read(11)


def test_shard_cut_while_training_is_named(shards: Path) -> None:
    reader = ShardReader(shards)
    os.truncate(shards / "shard-000004.tar", 2000)
    with pytest.raises(UserError, match=r"shard-000004\.tar: n00002\d\.\w+"):
        reader.read(22)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            lambda folder: (folder / "shard-000003.tar").unlink(),
            r"shard-000003\.tar: this file is missing",
        ),
        (
            lambda folder: (folder / "shard-000000.index.json").unlink(),
            r"shard-000000\.index\.json: this file is missing",
        ),
        (
            lambda folder: alter(folder / "shard-000000.index.json", 30),
            r"shard-000000\.index\.json: the file was altered",
        ),
        (
            lambda folder: (folder / "manifest.json").unlink(),
            r"manifest\.json: the manifest is missing",
        ),
        (
            lambda folder: (folder / "manifest.json").write_text("{"),
            r"manifest\.json: it is not a manifest",
        ),
        (
            lambda folder: (folder / "manifest.json").write_text("[]"),
            r"manifest\.json: it is not a manifest",
        ),
        (shutil.rmtree, r"shards: there is no such folder"),
    ],
)
def test_missing_and_broken_files_are_named_before_training(
    shards: Path, damage: Callable[[Path], object], named: str
) -> None:
    damage(shards)
    with pytest.raises(UserError, match=named):
        ShardData({"n": str(shards)}, batch_size=2, size_px=16, flip=0.0).prepare_data()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("samples", 22, "do not add up"),
        ("format_version", 9, "format_version 9"),
        ("depth_kind", "metres", "depth_kind"),
        (
            "shards",
            [{"name": "../x", "samples": 23, "bytes": 1, "sha256": "", "index_sha256": ""}],
            "outside the folder",
        ),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(
    shards: Path, key: str, value: object, reason: str
) -> None:
    path = shards / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=reason):
        read_manifest(shards)


def test_whole_shards_are_hashed_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(shards)
    assert (shards / VERIFIED_FILE).is_file()
    shard = shards / "shard-000001.tar"
    stamp = shard.stat()
    alter(shard, 100)  # a header byte
    os.utime(shard, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    check(shards)
    (shards / VERIFIED_FILE).write_text("nonsense")
    with pytest.raises(UserError, match="shard-000001"):
        check(shards)


def test_size_check_alone_sees_truncation_and_not_a_changed_byte(shards: Path) -> None:
    alter(shards / "shard-000001.tar", 100)
    verify_shards(shards, read_manifest(shards), "size")
    os.truncate(shards / "shard-000001.tar", 1024)
    with pytest.raises(UserError, match="truncated"):
        verify_shards(shards, read_manifest(shards), "size")


def test_error_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with new_folder(tmp_path / "out") as folder, ShardWriter(folder, 1) as writer:
            writer.add("a", {"png": b"x"})
            writer.add("b.c", {"png": b"x"})

    with pytest.raises(ValueError, match="no key"):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot be written"),
        new_folder(tmp_path / "file" / "shards"),
    ):
        pass


def test_open_files_are_bounded_and_left_behind_by_pickling(tmp_path: Path) -> None:
    with new_folder(tmp_path / "many") as folder, ShardWriter(folder, 1) as writer:
        for number in range(MAX_OPEN_SHARDS + 6):
            writer.add(f"k{number}", {"json": b"{}"})
        writer.close(source="n", licence="CC0", split="train", depth_kind=None, depth_unit=None)
    reader = ShardReader(tmp_path / "many")
    for number in (*range(len(reader)), 0):
        assert reader.read(number).key == f"k{number}"
    assert len(reader._open) == MAX_OPEN_SHARDS
    copy = pickle.loads(pickle.dumps(reader))
    assert copy._open == {}
    assert copy.read(3).key == "k3"


def test_unknown_members_are_never_decoded(shards: Path, tmp_path: Path) -> None:
    """A pickle in a shard stays bytes."""
    payload = pickle.dumps(print)
    with new_folder(tmp_path / "pickled") as folder, ShardWriter(folder) as writer:
        writer.add(
            "a",
            {**ShardReader(shards).read(0).members, "pyd": payload, "pkl": payload, "pth": payload},
        )
        writer.close(
            source="n", licence="CC0", split="train", depth_kind="disparity", depth_unit="relative"
        )
    data = ShardData({"n": str(tmp_path / "pickled")}, batch_size=1, size_px=16, flip=0.0)
    assert next(iter(data.train_dataloader())).key == ["a"]


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_found_while_training_arrives_as_one_sentence(shards: Path, workers: int) -> None:
    class Nothing(LightningModule):
        def training_step(self, batch: object, batch_idx: int) -> None:
            return None

        def configure_optimizers(self) -> None:
            return None

    data = ShardData(
        {"n": str(shards)}, batch_size=4, num_workers=workers, size_px=16, flip=0.0, verify="size"
    )
    alter(shards / "shard-000000.tar", index_of(shards / "shard-000000.tar")[2][1]["png"][0])
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    with pytest.raises(UserError) as caught:
        trainer.fit(Nothing(), data)
    assert str(caught.value).count("\n") == 0
    assert "shard-000000.tar: n000002.png: it is truncated or altered" in str(caught.value)


def test_damaged_synthetic_set_says_how_to_get_it_again(
    synthetic_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(synthetic_cache, tmp_path / "cache")
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path / "cache"))
    folder = prepare("synthetic:val")
    os.truncate(folder / "shard-000000.tar", 5000)
    with pytest.raises(UserError, match=r"truncated .* delete .*val, and it is written again\.$"):
        prepare("synthetic:val")
    shutil.rmtree(folder)
    assert prepare("synthetic:val") == folder
