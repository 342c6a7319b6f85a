"""Tars that webdataset wrote are indexed and read, all samples; damaged ones are named."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from dofsuite.data.__main__ import main
from dofsuite.data.buckets import sizes_file
from dofsuite.data.manifest import read_manifest, verify_shards
from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader, index_of
from dofsuite.errors import UserError


def write_foreign(folder: Path, count: int = 12) -> None:
    """Write shards of five as webdataset's ShardWriter does: its encoders, keys with a folder."""
    folder.mkdir()
    pattern = str(folder / "foreign-%04d.tar")
    with webdataset.ShardWriter(pattern, maxcount=5, verbose=0) as writer:
        for number in range(count):
            sample = {
                "__key__": f"train/{number:04d}",
                "JPG": np.full((16, 24, 3), number / 20, dtype=np.float32),
                "txt": f"picture {number}",
                "json": {"exif": {"f_number": 2.8, "focal_length_mm": 50}},
                "cls": number,
            }
            writer.write(
                {key: sample[key] for key in sample if key != "JPG"} | {"jpg": sample["JPG"]}
            )


def test_shards_of_webdataset_are_indexed_and_read_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_foreign(tmp_path / "s")
    tars = sorted((tmp_path / "s").glob("*.tar"))
    before = [tar.read_bytes() for tar in tars]
    assert main(["index", str(tmp_path / "s"), "--licence", "CC0"]) == 0
    assert "12 samples in 3 shards" in capsys.readouterr().out
    assert [tar.read_bytes() for tar in tars] == before

    # Every sample as webdataset itself reads it
    reader = ShardReader(tmp_path / "s")
    streamed = list(webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False))
    assert len(reader) == len(streamed) == 12
    for number, other in enumerate(streamed):
        sample = reader.read(number)
        assert sample.key == other["__key__"] == f"train/{number:04d}"
        assert sample.members == {e: other[e] for e in ("jpg", "txt", "json", "cls")}

    # And as a training set
    manifest = read_manifest(tmp_path / "s")
    verify_shards(tmp_path / "s", manifest)
    counts = (manifest.samples_with_depth, manifest.samples_with_caption)
    assert (*counts, manifest.samples_with_exif) == (0, 12, 12)
    assert (tmp_path / "s" / sizes_file(manifest)).is_file()
    data = ShardData(
        {"s": str(tmp_path / "s")}, batch_size=4, size_px=16, require_depth=False, flip=0.0
    )
    batches = list(itertools.islice(data.train_dataloader(), 3))
    assert sorted(c for b in batches for c in b.caption) == sorted(
        f"picture {number}" for number in range(12)
    )


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG")
    return file.getvalue()


def tar_of(folder: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = (len(data), kind) if kind == tarfile.REGTYPE else (0, kind)
            info.linkname = "" if kind == tarfile.REGTYPE else "/etc/passwd"
            tar.addfile(info, io.BytesIO(data))
    return folder / "a.tar"


@pytest.mark.parametrize("extension", ["gz", "bz2"])
def test_compressed_tar_is_named(tmp_path: Path, extension: str) -> None:
    tar_of(tmp_path, ("a.png", png())).rename(tmp_path / f"a.tar.{extension}")
    assert main(["index", str(tmp_path)]) == 2


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "x/../../a.png", "a\nb.png"])
def test_member_that_leads_outside_is_named(tmp_path: Path, name: str) -> None:
    tar = tar_of(tmp_path, ("b.png", png()), (name, png()))
    with pytest.raises(UserError, match=r"a\.tar: '.*': a sample's key must be a plain name"):
        index_of(tar)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_link_is_named(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.tar: a\.png: it is a link, or too large"):
        index_of(tar_of(tmp_path, ("a.png", b""), kind=kind))


def cut(tar: Path, to: Callable[[int, int], int]) -> None:
    offset, size, _ = index_of(tar)[1][1]["png"]
    os.truncate(tar, to(offset, size))


@pytest.mark.parametrize(
    "to",
    [
        lambda offset, size: offset - 512,
        lambda offset, size: offset - 300,
        lambda offset, size: offset + size // 2,
        lambda offset, size: offset + 512 * (-(-size // 512)),
        lambda offset, size: 0,
        lambda offset, size: 100,
    ],
)
def test_truncated_tar_is_named_also_where_tarfile_sees_its_end(
    tmp_path: Path, to: Callable[[int, int], int]
) -> None:
    tar = tar_of(tmp_path, ("a.png", png()), ("b.png", png()), ("c.png", png()))
    cut(tar, to)
    with pytest.raises(UserError, match=r"a\.tar: (the shard is truncated|it is no plain tar)"):
        index_of(tar)


def test_samples_without_an_image_are_left_out_up_to_the_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar_of(tmp_path, ("a.png", png()), ("b.txt", b"text"), ("c.json", b"["), ("c.png", png()))
    assert main(["index", str(tmp_path), "--skip-damaged", "1"]) == 2
    said = capsys.readouterr()
    assert "left out, 1 of at most 1" in said.out
    assert "a.tar: c.json: it is not JSON" in said.err
    assert not (tmp_path / "manifest.json").exists()
    assert main(["index", str(tmp_path), "--skip-damaged", "2"]) == 0
    assert len(ShardReader(tmp_path)) == 1


def test_another_index_of_the_same_name_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_foreign(tmp_path / "s", count=2)
    own = tmp_path / "s" / "foreign-0000.index.json"
    own.write_text("somebody's")
    assert main(["index", str(tmp_path / "s")]) == 2
    assert f"{own}: another index lies where this one is to be" in capsys.readouterr().err
    assert own.read_text() == "somebody's"


def test_pickles_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar_of(tmp_path, ("a.png", png()), ("a.pyd", b"x"), ("b.png", png()), ("b.mask.pth", b"x"))
    assert main(["index", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "1 .pth members are never opened" in said
    assert "1 .pyd members are never opened" in said
