"""Captions and EXIF: from files to shards to batches, and refused in one sentence where they are
asked for in vain.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.data.__main__ import main
from dofsuite.data.manifest import read_manifest
from dofsuite.data.module import ShardData
from dofsuite.data.packing.photo_exif import exif_of_photograph
from dofsuite.data.sample_record import mirror_caption, read_record
from dofsuite.data.shards import ShardReader, write_shards
from dofsuite.errors import UserError
from dofsuite.exif import CameraExif

RATIONAL, SHORT, LONG = 5, 3, 4


def exif_block(tags: dict[int, tuple[int, tuple[int, ...]]]) -> bytes:
    """Write an EXIF block by hand, as TIFF 6.0 lays it out: IFD0 points to the Exif IFD, rationals
    follow.
    """
    start = 8 + 2 + 12 + 4
    data_start = start + 2 + 12 * len(tags) + 4
    entries, data = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        if kind == RATIONAL:
            entries += struct.pack("<HHII", tag, kind, 1, data_start + len(data))
            data += struct.pack("<II", *values)
        else:
            entries += struct.pack("<HHIHH", tag, kind, 1, values[0], 0)
    first = struct.pack("<HHHII", 1, 0x8769, LONG, 1, start) + struct.pack("<I", 0)
    exif = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + data
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + exif


def photograph(tags: dict[int, tuple[int, tuple[int, ...]]] | None, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image.save(file, kind, **({"exif": exif_block(tags)} if tags is not None else {}))
    return file.getvalue()


F_NUMBER, FOCAL, FOCAL_35 = 33437, 37386, 41989


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (
            {
                F_NUMBER: (RATIONAL, (28, 10)),
                FOCAL: (RATIONAL, (557, 100)),
                FOCAL_35: (SHORT, (26,)),
            },
            # A phone's sensor: 43.27 mm x 5.57 / 26 across, 4 : 3
            CameraExif(2.8, 5.57, pytest.approx(43.267 * 5.57 / 26 * 0.8, rel=1e-3), None, 26.0),
        ),
        (
            {F_NUMBER: (RATIONAL, (11, 1)), FOCAL: (RATIONAL, (50, 1))},
            CameraExif(11.0, 50.0),
        ),
        (
            {FOCAL: (RATIONAL, (50, 1)), FOCAL_35: (SHORT, (0,))},
            CameraExif(focal_length_mm=50.0),
        ),
        ({F_NUMBER: (RATIONAL, (0, 0))}, CameraExif()),
        (None, CameraExif()),
    ],
)
def test_exif_is_what_the_camera_wrote(tags: dict | None, found: CameraExif, kind: str) -> None:
    assert exif_of_photograph(photograph(tags, kind)) == found


def test_damaged_exif_is_no_exif() -> None:
    data = photograph({F_NUMBER: (RATIONAL, (28, 10))})
    start = data.index(b"II*\0")
    assert exif_of_photograph(data[: start + 4] + b"\xff" * 8 + data[start + 12 :]) == CameraExif()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two APS-C photographs with caption, one without EXIF, one with an f-number alone."""
    path = tmp_path / "photos"
    path.mkdir()
    full = {
        F_NUMBER: (RATIONAL, (18, 10)),
        FOCAL: (RATIONAL, (56, 1)),
        FOCAL_35: (SHORT, (84,)),
    }
    for name, tags in (
        ("a", full),
        ("b", None),
        ("c", full),
        ("d", {F_NUMBER: (RATIONAL, (4, 1))}),
    ):
        (path / f"{name}.jpg").write_bytes(photograph(tags))
    (path / "a.txt").write_text("\ufeffa cat\n on the left \n", encoding="utf-8")
    (path / "c.txt").write_text("über", encoding="utf-8")
    (path / "notes.txt").write_text("of no picture")
    return path


def packed(folder: Path, *options: str) -> Path:
    output = folder.parent / "shards"
    assert main([str(folder), "-o", str(output), *options]) == 0
    return output


def test_packed_folder_keeps_captions_and_exif(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = packed(folder)
    said = capsys.readouterr().out
    assert "2 with a caption, 2 with f-number, focal length and sensor width" in said
    assert "packed without a camera: 1 with no f-number in EXIF, 1 with no focal length" in said
    assert f"left out: {folder / 'notes.txt'}" in said
    manifest = read_manifest(output)
    assert (manifest.samples_with_caption, manifest.samples_with_exif) == (2, 2)
    reader = ShardReader(output)
    assert reader.read(0).members["txt"] == (folder / "a.txt").read_bytes()
    assert "exif" not in json.loads(reader.read(1).members["json"])
    data = ShardData({"x": str(output)}, batch_size=4, size_px=20, flip=0.0, require_depth=False)
    batch = next(iter(data.train_dataloader()))
    by_key = {key[-1]: number for number, key in enumerate(batch.key)}
    assert {name: batch.caption[number] for name, number in by_key.items()} == {
        "a": "a cat on the left",
        "b": "",
        "c": "über",
        "d": "",
    }
    f_number = torch.stack([batch.f_number[by_key[name]] for name in "abcd"])
    torch.testing.assert_close(f_number, torch.tensor([1.8, torch.nan] * 2), equal_nan=True)
    for column, value in ((batch.focal_length_mm, 56), (batch.sensor_width_mm, 23.5)):
        found = torch.stack([column[by_key[name]] for name in "abcd"])
        torch.testing.assert_close(found, torch.tensor([value, torch.nan] * 2), equal_nan=True)


def test_photographs_whose_camera_is_not_known_are_left_out_with_a_count(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = packed(folder, "--require-exif")
    assert "left out: 1 with no f-number in EXIF, 1 with no focal length in EXIF" in (
        capsys.readouterr().out
    )
    manifest = read_manifest(output)
    assert (manifest.samples, manifest.samples_with_exif) == (2, 2)
    assert manifest.without_exif == {"no f-number": 1, "no focal length": 1}
    ShardData({"x": str(output)}, size_px=20, require_depth=False, require_exif=True).setup()
    for name in "ac":
        (folder / f"{name}.jpg").unlink()
    assert main([str(folder), "-o", str(folder.parent / "none"), "--require-exif"]) == 2
    assert "--require-exif: no image is left" in capsys.readouterr().err


def test_exif_of_older_shards_is_refused_where_blur_depends_on_it(tmp_path: Path) -> None:
    exif = {"f_number": 1.8, "focal_length_mm": 85, "focal_length_of": "35mm film"}
    data = {"json": json.dumps({"exif": exif}).encode(), "jpg": photograph(None)}
    assert not read_record(data, "k").has_exif
    options = {"source": "n", "licence": "CC0", "split": "train"}
    write_shards(tmp_path / "s", [("k", data)], **options, depth_kind=None, depth_unit=None)
    path = tmp_path / "s" / "manifest.json"
    path.write_text(path.read_text().replace('"samples_with_exif": 0', '"samples_with_exif": 1'))
    needs = {"require_depth": False, "require_exif": True}
    with pytest.raises(UserError, match=r"sensor widths were not read.*pack its photographs again"):
        ShardData({"x": str(tmp_path / "s")}, size_px=20, **needs).setup()
    ShardData({"x": str(tmp_path / "s")}, size_px=20, require_depth=False).setup()


def test_full_frame_is_meant_where_no_sensor_is_said() -> None:
    record = json.dumps({"exif": {"f_number": 8, "focal_length_mm": 50}}).encode()
    read = read_record({"json": record}, "s")
    assert (read.f_number, read.focal_length_mm, read.equivalent_mm) == (8.0, 50.0, 50.0)


def test_caption_that_is_no_text_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.txt").write_bytes(b"\xff\xfe\xff")
    assert main([str(folder), "-o", str(folder.parent / "out")]) == 2
    assert f"{folder / 'c.txt'}: it is not UTF-8 text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (
            "require_captions",
            "2 of 4 samples in .* have no caption: put a .txt file of the same stem",
        ),
        (
            "require_exif",
            "2 of 4 samples in .* have no EXIF of f-number, focal length and sensor width: use",
        ),
        ("require_depth", "4 of 4 samples in .* have no depth map: put a depth map"),
    ],
)
def test_set_that_lacks_what_is_required_is_refused_with_the_mend(
    folder: Path, option: str, reason: str
) -> None:
    output = packed(folder)
    options = {"require_depth": False, "require_captions": False, "require_exif": False}
    ShardData({"x": str(output)}, size_px=20, **options).setup()
    with pytest.raises(
        UserError, match=rf"^data\.train\.x: {reason}.*does without, set data\.{option} to false\.$"
    ):
        ShardData({"x": str(output)}, size_px=20, **{**options, option: True}).setup()


def test_manifest_from_before_the_counts_is_read_as_without(shards: Path) -> None:
    path = shards / "manifest.json"
    old = json.loads(path.read_text())
    del old["samples_with_caption"], old["samples_with_exif"]
    path.write_text(json.dumps(old))
    assert (
        read_manifest(shards).samples_with_caption,
        read_manifest(shards).samples_with_exif,
    ) == (0, 0)
    ShardData({"n": str(shards)}, size_px=16).setup()
    with pytest.raises(UserError, match=r"23 of 23 samples in .* have no caption"):
        ShardData({"n": str(shards)}, size_px=16, require_captions=True).setup()


def test_text_file_goes_before_the_caption_of_the_record() -> None:
    record = json.dumps(
        {"caption": "of the record", "exif": {"f_number": 8, "focal_length_mm": None}}
    ).encode()
    assert read_record({"json": record}, "s").caption == "of the record"
    both = read_record({"json": record, "txt": b" of the\n file "}, "s")
    assert both.caption == "of the file"
    assert both.f_number == 8
    assert not both.has_exif


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"caption": 3}, "caption: a text"),
        ({"exif": [1.8]}, "exif: an object"),
        ({"exif": {"f_number": 0}}, r"exif\.f_number: a number above 0 is expected, not 0"),
        ({"exif": {"f_number": "2.8"}}, r"exif\.f_number"),
        ({"exif": {"focal_length_mm": float("nan")}}, r"exif\.focal_length_mm"),
        ({"exif": {"focal_length_mm": True}}, r"exif\.focal_length_mm"),
    ],
)
def test_record_that_is_wrong_is_named(
    record: dict[str, object], named: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^k\.json: {named}"):
        write_shards(
            tmp_path / "s",
            [("k", {"json": json.dumps(record).encode()})],
            source="n",
            licence="CC0",
            split="train",
            depth_kind=None,
            depth_unit=None,
        )


def test_mirrored_picture_has_a_mirrored_caption(folder: Path) -> None:
    output = packed(folder)
    data = ShardData({"x": str(output)}, batch_size=4, size_px=20, flip=1.0, require_depth=False)
    assert "a cat on the right" in next(iter(data.train_dataloader())).caption
    for caption in (
        "a disc on the left, a box on the right",
        "Right and left, LEFT: leftovers brighten",
        "",
    ):
        assert mirror_caption(mirror_caption(caption)).lower() == caption.lower()
