"""`python -m dofsuite.data import`: each data set's own layout and traps, and its license first."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dofsuite.data.__main__ import main
from dofsuite.data.importers.run import NAMES, data_set
from dofsuite.data.manifest import read_manifest, verify_shards
from dofsuite.data.shards import Sample, ShardReader
from tests.data.importers import layouts

MANIFESTS = Path(__file__).parents[3] / "data_manifests"


def imported(name: str, root: Path, *more: str) -> Path:
    output = root.parent / "out"
    assert main(["import", name, str(root), "-o", str(output), *more]) == 0
    return output


def refused(capsys: pytest.CaptureFixture[str], name: str, root: Path, *more: str) -> str:
    capsys.readouterr()
    output = root.parent / "refused"
    assert main(["import", name, str(root), "-o", str(output), *more]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert not output.exists()
    return line


def samples(folder: Path) -> list[Sample]:
    manifest = read_manifest(folder)
    verify_shards(folder, manifest)
    reader = ShardReader(folder)
    return [reader.read(number) for number in range(len(reader))]


def record(sample: Sample) -> dict[str, object]:
    return json.loads(sample.members["json"])


def pairs_of(output: Path) -> list[dict[str, object]]:
    return json.loads((output / "pairs" / "pairs.json").read_text())["pairs"]


@pytest.mark.parametrize("name", NAMES)
def test_data_manifest_says_what_the_importer_says(name: str) -> None:
    chosen = data_set(name)
    stated = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
    assert stated["licence"] == chosen.licence
    assert stated["source"] == chosen.source
    assert stated["refuses"] == dict(chosen.refuses)
    depth = stated["depth"] and (stated["depth"]["kind"], stated["depth"]["unit"])
    assert depth == (chosen.depth_kind and (chosen.depth_kind, chosen.depth_unit))


# --- data sets ---


def test_ebb_holds_out_the_last_294_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.save_ebb(tmp_path / "EBB")
    output = imported("ebb", tmp_path / "EBB")
    printed = capsys.readouterr().out.splitlines()
    assert "license: terms of the AIM/NTIRE challenges" in printed[0]
    assert "left out: 1 photographs without a partner" in printed
    assert {path.name for path in output.iterdir()} == {"train"}
    assert [record(each)["file"] for each in samples(output / "train")] == ["4399.jpg", "7.jpg"]
    # Evaluation has the others, at f/16 and f/1.8
    held_out = imported("ebb", tmp_path / "EBB", "--purpose", "evaluate", "-o", str(tmp_path / "e"))
    assert held_out == output  # the later -o counts
    pairs = pairs_of(tmp_path / "e")
    assert [pair["name"] for pair in pairs] == ["Training-4400", "Training-4693"]
    cameras = {
        pair[f"{side}_camera"]["f_number"] for pair in pairs for side in ("sharp", "blurred")
    }
    assert cameras == {1.8, 16.0}
    stored = (tmp_path / "e" / "pairs" / str(pairs[0]["blurred"])).read_bytes()
    assert stored == (tmp_path / "EBB" / "Training" / "bokeh" / "4400.jpg").read_bytes()
    assert read_manifest(tmp_path / "e" / "test").split == "test"


def test_realbokeh_s_scene_is_one_id_of_one_split(tmp_path: Path) -> None:
    layouts.save_realbokeh(tmp_path / "rb")
    output = imported("realbokeh", tmp_path / "rb")
    for split, distance in (("train", 1.5), ("val", 2.5)):
        (sample,) = samples(output / split)
        camera = record(sample)["camera"]
        assert camera == {
            "f_number": 22.0,
            "focal_length_mm": 50.0,
            "focus_m": distance,
            "focus_uncertainty_m": 0.05,
        }
    terms = read_manifest(output / "train").terms
    assert terms["licence"] == "CC BY-NC-SA 4.0"
    assert terms["imported_for"] == "train"
    # The test split alone, a pair an aperture
    words = ("--purpose", "evaluate", "-o", str(tmp_path / "e"))
    imported("realbokeh", tmp_path / "rb", *words)
    pairs = pairs_of(tmp_path / "e")
    assert [pair["blurred_camera"]["f_number"] for pair in pairs] == [2.0, 5.6]
    assert {pair["scene"] for pair in pairs} == {"test-1"}
    assert {pair["sharp"] for pair in pairs} == {"images/test-1-sharp.jpg"}


def test_hdr_plus_splits_by_day_and_takes_finished_photographs_only(tmp_path: Path) -> None:
    layouts.save_hdr_plus(tmp_path / "hdr")
    output = imported("hdr_plus", tmp_path / "hdr")
    days = {
        split: {record(each)["scene"] for each in samples(output / split)}
        for split in ("train", "val")
    }
    assert days["val"] == {"33TJ_20150102", "33TJ_20150125", "33TJ_20150127"}
    assert not days["train"] & days["val"]
    count = sum(read_manifest(output / split).samples for split in days)
    assert count == len(list((tmp_path / "hdr").rglob("final.jpg")))


def test_dpdd_pairs_by_order_and_rounds_16_bits(tmp_path: Path) -> None:
    layouts.save_dpdd(tmp_path / "dpdd")
    imported("dpdd", tmp_path / "dpdd", "--purpose", "evaluate")
    pairs = pairs_of(tmp_path / "out")
    assert [pair["scene"] for pair in pairs] == ["test-1P0A0874", "test-1P0A0902"]
    folder = tmp_path / "out" / "pairs"
    cut = 0
    for pair, numbers in zip(pairs, ((874, 875), (902, 903)), strict=True):
        for side, number in zip(("sharp", "blurred"), numbers, strict=True):
            values = np.asarray(Image.open(folder / str(pair[side])))
            expected = [round(number * factor / 257) for factor in (51, 60, 70)]
            assert values[0, 0].tolist() == expected
            cut += expected != [number * factor // 256 for factor in (51, 60, 70)]
    # Pillow alone would have dropped the low byte
    assert cut


def test_lfdof_keeps_a_scene_s_levels_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.save_lfdof(tmp_path / "lf")
    assert "its authors state no license" in refused(capsys, "lfdof", tmp_path / "lf")
    imported("lfdof", tmp_path / "lf", "--purpose", "evaluate")
    pairs = pairs_of(tmp_path / "out")
    assert [pair["scene"] for pair in pairs] == ["test-2464"] * 3
    assert {pair["sharp"] for pair in pairs} == {"images/test-2464-sharp.png"}


def test_blb_reads_openexr(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR", reason="OpenEXR (extra importers) is not installed")
    layouts.save_blb(tmp_path / "blb")
    imported("blb", tmp_path / "blb", "--purpose", "evaluate")
    (sample,) = samples(tmp_path / "out" / "test")
    values = np.asarray(Image.open(io.BytesIO(sample.members["png"])))
    light = np.linspace(0, 3, 24 * 36 * 3).reshape(24, 36, 3)
    assert np.abs(values - 255 * light.clip(0, 1) ** (1 / 2.2)).max() <= 0.51
    depth = np.load(io.BytesIO(sample.members["depth.npy"]))
    assert np.isinf(depth[0]).all()
    assert depth[1:].max() < 6
    pairs = pairs_of(tmp_path / "out")
    assert [pair["blurred_camera"] for pair in pairs[:2]] == [
        {"blur_parameter": 10.0, "focus_distance": 1.5},
        {"blur_parameter": 10.0, "focus_distance": 4.0},
    ]
    assert len(pairs) == 4


def test_folder_is_packed_in_its_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val", "other"):
        layouts.save(tmp_path / "own" / split / "a.jpg", 1)
    assert "no license is stated" in refused(capsys, "folder", tmp_path / "own")
    imported("folder", tmp_path / "own", "--licence", "CC0")
    assert "left out: 1 images in none of the splits" in capsys.readouterr().out
    assert [read_manifest(tmp_path / "out" / split).split for split in ("train", "val")] == [
        "train",
        "val",
    ]


def test_hugging_face_folder_has_captions_depth_and_its_card_s_license(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "hf"
    layouts.save_hugging_face(root)
    assert "--depth-kind" in refused(capsys, "hugging_face", root)
    output = imported("hugging_face", root, "--depth-kind", "disparity")
    train = samples(output / "train")
    assert [record(each)["caption"] for each in train] == ["a house", "a tree"]
    assert ["depth.png" in each.members for each in train] == [True, False]
    assert read_manifest(output / "val").licence == "cc0-1.0"
    # Traps: a path that leaves the set, a missing file, Parquet
    (root / "validation" / "metadata.csv").write_text("file_name\n../../../x.jpg\n")
    assert "lies outside" in refused(capsys, "hugging_face", root)
    (root / "validation" / "metadata.csv").write_text("file_name\n4.jpg\n")
    assert "there is no such image" in refused(capsys, "hugging_face", root)
    (tmp_path / "parquet").mkdir()
    (tmp_path / "parquet" / "0.parquet").write_bytes(b"PAR1")
    words = ("--licence", "CC0")
    assert "Parquet" in refused(capsys, "hugging_face", tmp_path / "parquet", *words)


# --- licenses ---


def test_a_license_that_forbids_is_said_before_a_file_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The folder is not there: the license comes first
    absent = tmp_path / "absent" / "x"
    line = refused(capsys, "realbokeh", absent, "--purpose", "product")
    assert "NC allows no commercial use (license: CC BY-NC-SA 4.0)" in line
    assert "no such folder" in refused(capsys, "realbokeh", absent)
    own = ("--purpose", "product", "--licence")
    assert "no such folder" in refused(capsys, "realbokeh", absent, *own, "by contract")
    assert "no commercial use" in refused(capsys, "realbokeh", absent, *own, "CC BY-NC 4.0")
    layouts.save_hugging_face(tmp_path / "hf", "cc-by-nc-4.0")
    words = ("--purpose", "product", "--depth-kind", "disparity")
    assert "no commercial use" in refused(capsys, "hugging_face", tmp_path / "hf", *words)


def test_bad_files_are_named_together_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "rb"
    layouts.save_realbokeh(root)
    (root / "train" / "metadata" / "1.json").write_text("{}")
    (root / "test" / "metadata" / "1.json").unlink()
    line = refused(capsys, "realbokeh", root)
    assert "train/metadata/1.json" in line
    assert "test/metadata/1.json" in line
    layouts.save_dpdd(tmp_path / "dpdd")
    (tmp_path / "dpdd" / "dd_dp_dataset_png" / "train_c" / "source" / "1P0A0875.png").unlink()
    assert "1 files in source/ and 2 in target/" in refused(capsys, "dpdd", tmp_path / "dpdd")
    layouts.save_hdr_plus(tmp_path / "hdr")
    first = min((tmp_path / "hdr").rglob("final.jpg"))
    first.write_bytes(first.read_bytes()[:200])
    assert "nothing was written" in refused(capsys, "hdr_plus", tmp_path / "hdr")
