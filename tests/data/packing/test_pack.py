"""`python -m dofsuite.data DIR -o SHARDS`: a user's folder becomes shards, or its bad files are
named.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dofsuite
from dofsuite.backbones import RelativeDepth
from dofsuite.data.__main__ import main
from dofsuite.data.manifest import read_manifest, verify_shards
from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader
from tests.backbones.perception.test_relative_depth import save

RAMP = np.repeat(np.arange(30, dtype=np.float32)[None], 20, axis=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs of 30x20 px: with a PNG, a 16-bit PNG and an .npy depth map, larger is
    nearer.
    """
    path = tmp_path / "photos"
    (path / "trip").mkdir(parents=True)
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    )
    picture.save(path / "a.jpg")
    Image.fromarray((RAMP * 8).astype(np.uint8)).save(path / "a.png")
    picture.save(path / "b.png")
    Image.fromarray((RAMP * 2000).astype(np.uint16)).save(path / "b_depth.png")
    picture.save(path / "trip" / "c.v1.webp")
    np.save(path / "trip" / "c.v1.npy", RAMP)
    return path


def pack(folder: Path, *options: str) -> tuple[int, Path]:
    output = folder.parent / "shards"
    return main([str(folder), "-o", str(output), *options]), output


def test_depth_is_predicted_once_for_every_image_and_packed_as_disparity(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path / "relative", "relative")
    auto = ("--depth", "auto", "--depth-model", model)
    capsys.readouterr()
    assert "there is a depth map already" in refused(folder, capsys, *auto)
    for depth_map in ("a.png", "b_depth.png", "trip/c.v1.npy"):
        (folder / depth_map).unlink()
    assert "predicts disparity" in refused(folder, capsys, *auto, "--depth-kind", "depth")
    code, output = pack(folder, *auto)
    assert code == 0
    assert read_manifest(output).depth_kind == "disparity"
    sample = ShardReader(output).read(0)
    stored = np.asarray(Image.open(io.BytesIO(sample.members["depth.png"])))
    image = torch.from_numpy(np.array(Image.open(folder / "a.jpg"))).permute(2, 0, 1)[None] / 255
    predicted = RelativeDepth(model).load()(image)[0, 0].detach().numpy()
    expected = (predicted - predicted.min()) / np.ptp(predicted)
    assert np.abs(stored / 65535 - expected).max() < 1e-4
    assert json.loads(sample.members["json"])["depth"]["predicted_by"] == model


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Pack in vain, and return the one line that says why."""
    code, output = pack(folder, *options)
    error = capsys.readouterr().err
    assert code == 2
    assert not output.exists()
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []
    assert error.count("\n") == 1
    return error


def test_folder_is_packed_and_can_be_trained_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = pack(
        folder, "--depth-kind", "disparity", "--source", "mine", "--licence", "CC BY 4.0"
    )
    assert code == 0
    assert "3 images, 3 of them with depth, in 1 shards" in capsys.readouterr().out
    manifest = read_manifest(output)
    assert (manifest.source, manifest.licence, manifest.depth_kind) == (
        "mine",
        "CC BY 4.0",
        "disparity",
    )
    verify_shards(output, manifest)
    data = ShardData({"mine": str(output)}, batch_size=3, size_px=20, flip=0.0)
    batch = next(iter(data.train_dataloader()))
    expected = (RAMP[:, 5:25] - 5) / 19
    assert np.abs(batch.disparity[:, 0].numpy() - expected).max() < 1e-6
    assert batch.width_px.tolist() == [30, 30, 30]
    assert sorted(batch.key) == ["000000_a", "000001_b", "000002_trip-c-v1"]


def test_files_are_stored_byte_for_byte(folder: Path) -> None:
    _, output = pack(folder, "--depth-kind", "disparity", "--depth-unit", "1/m")
    members = ShardReader(output).read(0).members
    assert members["jpg"] == (folder / "a.jpg").read_bytes()
    assert members["depth.png"] == (folder / "a.png").read_bytes()
    record = json.loads(members["json"])
    assert record["depth"] == {
        "kind": "disparity",
        "unit": "1/m",
        "smallest": 0.0,
        "largest": 232.0,
    }
    assert record["file"] == "a.jpg"


def test_depth_turns_near_and_far_around(folder: Path) -> None:
    for path in (folder / "a.png", folder / "b_depth.png", folder / "trip" / "c.v1.npy"):
        path.unlink()
    np.save(folder / "a.npy", RAMP + 1)
    code, output = pack(folder, "--depth-kind", "depth", "--depth-unit", "m")
    assert code == 0
    assert read_manifest(output).samples_with_depth == 1
    data = ShardData({"mine": str(output)}, batch_size=3, size_px=20, flip=0.0, require_depth=False)
    batch = next(iter(data.train_dataloader()))
    row = batch.has_depth.nonzero().item()
    inverse = 1 / (RAMP + 1)[:, 5:25]
    expected = (inverse - inverse.min()) / np.ptp(inverse)
    np.testing.assert_allclose(batch.disparity[row, 0].numpy(), expected, atol=1e-6)


def test_depth_in_a_folder_of_its_own(folder: Path) -> None:
    depth = folder.parent / "depth"
    (depth / "trip").mkdir(parents=True)
    (folder / "a.png").rename(depth / "a.png")
    (folder / "b_depth.png").rename(depth / "b.png")
    (folder / "trip" / "c.v1.npy").rename(depth / "trip" / "c.v1_depth.npy")
    code, output = pack(folder, "--depth", str(depth), "--depth-kind", "disparity")
    assert code == 0
    assert read_manifest(output).samples_with_depth == 3


def test_rotated_photograph_is_packed_with_its_upright_depth(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(folder / "d.jpg", exif=exif)
    np.save(folder / "d.npy", RAMP.T)
    assert pack(folder, "--depth-kind", "disparity")[0] == 0


def test_depth_kind_must_be_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--depth-kind" in refused(folder, capsys)


def write_bad(folder: Path, fault: str) -> str:
    """Put one fault into the folder, and return what the sentence must say."""
    image, depth = folder / "a.jpg", folder / "trip" / "c.v1.npy"
    if fault == "1x1":
        Image.new("RGB", (1, 1)).save(folder / "one.png")
        return f"{folder / 'one.png'}: 1x1 px are too few"
    if fault == "truncated":
        image.write_bytes(image.read_bytes()[:500])
        return f"{image}: the image is damaged"
    if fault == "nan":
        np.save(depth, np.where(RAMP == 3, np.nan, RAMP))
        return f"{depth}: 20 values are not finite"
    if fault == "size":
        np.save(depth, RAMP[:, :-1])
        return f"{depth}: the depth map is 29x20 px and its image 30x20 px"
    if fault == "orphan":
        np.save(folder / "z.npy", RAMP)
        return f"{folder / 'z.npy'}: a depth map without an image"
    if fault == "second map":
        np.save(folder / "b.npy", RAMP)
        return ": a second depth map of the stem b"
    if fault == "colored":
        Image.new("RGB", (30, 20), "red").save(folder / "a.png")
        return f"{folder / 'a.png'}: the depth map is colored"
    Image.new("RGB", (30, 20)).save(folder / "a.webp")
    return f"{folder / 'a.webp'}: a second image of the stem a"


@pytest.mark.parametrize(
    "fault",
    ["1x1", "truncated", "nan", "size", "orphan", "second map", "colored", "second picture"],
)
def test_bad_file_is_named_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    said = write_bad(folder, fault)
    assert said in refused(folder, capsys, "--depth-kind", "disparity")


def test_several_bad_files_are_named_together(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        (folder / f"bad{number}.png").write_bytes(b"nothing")
    error = refused(folder, capsys, "--depth-kind", "disparity")
    assert error.count("it is not a JPEG, PNG or WebP image") == 5
    assert "and 2 more" in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--depth-kind", "depth", "--depth-unit", "1/m"], "--depth-unit: 1/m is no unit of depth"),
        (["--depth", "nowhere", "--depth-kind", "depth"], "nowhere: there is no such folder"),
        (["--samples-per-shard", "0"], "--samples-per-shard"),
    ],
)
def test_wrong_options_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert said in refused(folder, capsys, *options)


def test_other_files_are_left_out_aloud_and_an_empty_folder_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "notes.txt").write_text("")
    (folder / ".DS_Store").write_text("")
    assert pack(folder, "--depth-kind", "disparity")[0] == 0
    out = capsys.readouterr().out
    assert f"left out: {folder / 'notes.txt'}" in out
    assert "DS_Store" not in out
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "-o", str(tmp_path / "new")]) == 2
    assert "there is no JPEG, PNG or WebP image" in capsys.readouterr().err


def test_output_that_exists_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.parent / "shards").mkdir()
    assert pack(folder, "--depth-kind", "disparity")[0] == 2
    assert "it exists already" in capsys.readouterr().err
    assert list((folder.parent / "shards").iterdir()) == []


def test_file_names_become_keys_that_every_tar_reader_takes(folder: Path) -> None:
    Image.new("RGB", (30, 20)).save(folder / "weird name..(1) üé.png")
    _, output = pack(folder, "--depth-kind", "disparity")
    keys = [ShardReader(output).read(number).key for number in range(4)]
    assert all("." not in key and "/" not in key for key in keys)


def test_command_line_ends_with_two_and_one_line(folder: Path) -> None:
    write_bad(folder, "nan")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "dofsuite.data",
            str(folder),
            "-o",
            str(folder.parent / "s"),
            "--depth-kind",
            "disparity",
        ],
        env={**os.environ, "PYTHONPATH": str(Path(dofsuite.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "c.v1.npy: 20 values are not finite" in run.stderr


def test_shards_of_many_samples_are_split(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    for number in range(7):
        (tmp_path / "photos" / f"{number}.png").write_bytes(file.getvalue())
    words = ["pack", str(tmp_path / "photos"), "-o", str(tmp_path / "s")]
    assert main([*words, "--samples-per-shard", "3"]) == 0
    assert [shard.samples for shard in read_manifest(tmp_path / "s").shards] == [3, 3, 1]
