"""Refocus: sharp images, a manual pass, depth; and networks of tiny random weights."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from dofsuite.curation.settings import Curation
from dofsuite.curation.verdicts import read_verdicts, sharpness_of
from dofsuite.data.decode import decode_depth_image
from dofsuite.data.shards import ShardReader
from dofsuite.metrics import laplacian_variance
from tests.backbones.perception.test_captioner import tiny_blip, tiny_llava
from tests.curation.conftest import OPTIONS, curate
from tests.curation.photographs import SHALLOW, jpeg, texture


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two sources: four sharp images and a blurred one each; one has a depth map."""
    folder = tmp_path_factory.mktemp("refocus")
    for source in ("photo", "ai"):
        (folder / source).mkdir()
        for number in range(5):
            image = texture(50 * (source == "ai") + number, 72, 48)
            if number == 4:
                image = image.filter(ImageFilter.GaussianBlur(3))
            image.save(folder / source / f"{number}.png")
    ramp = np.repeat(np.arange(72, dtype=np.uint16)[None] * 900, 48, axis=0)
    Image.fromarray(ramp).save(folder / "ai" / "0_depth.png")
    return folder


def test_sharpness_is_opencv_s_laplacian_variance():
    image = texture(1, 300, 200)
    expected = cv2.Laplacian(np.asarray(image.convert("L")), cv2.CV_64F).var()
    assert sharpness_of(image) == pytest.approx(expected, rel=1e-3)
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert sharpness_of(image) == pytest.approx(float(laplacian_variance(values)), rel=2e-3)


def test_sharp_images_are_looked_through_and_get_depth_a_set_a_source(photos, tmp_path, capsys):
    words = [photos / "photo", photos / "ai", "-o", tmp_path / "out", "--for", "refocus"]
    words += ["--without", "photograph", "--threshold", "min_side_px=32", "--test-share", "0"]
    words += ["--sharpness", "ai=50", "--depth-model", "packaged", "--depth-kind", "disparity"]
    assert curate(*words, "--stage", "map") == 0
    assert curate(*words, "--stage", "merge") == 0
    assert "contact_sheet.html" in capsys.readouterr().out
    page = (tmp_path / "out" / "contact_sheet.html").read_text()
    assert page.count("data-name=") == 8

    # The manual pass drops one; a pass that was saved into the folder is not written over
    sheet = (tmp_path / "out" / "decisions.csv").read_text()
    decisions = tmp_path / "decided.csv"
    decisions.write_text(sheet.replace("photo/2.png,keep", "photo/2.png,drop"))
    (tmp_path / "out" / "decisions.csv").write_text(decisions.read_text())
    assert curate(*words, "--balance", "--stage", "merge") == 0
    assert (tmp_path / "out" / "decisions.csv").read_text() == decisions.read_text()
    assert curate(*words, "--decisions", decisions) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["counts"] == {
        **{"photo/kept": 3, "photo/sharpness": 1, "photo/manual": 1},
        **{"ai/kept": 4, "ai/sharpness": 1},
    }
    merge = report["facts"]["merge"]
    assert merge["decisions"] == str(decisions)
    assert len(merge["decisions_sha256"]) == 64

    # Given depth is kept byte for byte, other depth predicted
    reader = ShardReader(tmp_path / "out" / "ai" / "train")
    assert reader.manifest.samples_with_depth == 4
    members = reader.read(0).members
    assert members["depth.png"] == (photos / "ai" / "0_depth.png").read_bytes()
    members = reader.read(1).members
    assert json.loads(members["json"])["depth"]["predicted_by"] == "packaged"
    depth = decode_depth_image(members["depth.png"], "depth")
    assert (depth.shape, depth.min(), depth.max()) == ((48, 72), 0, 65535)


def test_language_models_are_loaded_and_answer(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        (photos / f"{number}.jpg").write_bytes(jpeg(number, SHALLOW))
    (photos / "1.txt").write_text("given words")
    torch.manual_seed(0)
    for make, name in ((tiny_llava, "vlm"), (tiny_blip, "captioner")):
        for part in make():
            part.save_pretrained(tmp_path / name)
    words = [photos, "-o", tmp_path / "out", "--vlm", tmp_path / "vlm", *OPTIONS]
    words += ["--captioner", tmp_path / "captioner", "--without", "blur"]

    # Random weights say no yes: the answer stands in the row
    assert curate(*words, "--stage", "map") == 0
    rows, _ = read_verdicts(Curation(tmp_path / "out"), 0)
    assert [row["rejected_by"] for row in rows] == ["photograph"] * 2
    assert [row["photograph_by"] for row in rows] == [str(tmp_path / "vlm")] * 2

    # Recorded answers go before the network; captions are written where none is given
    answers = tmp_path / "answers.jsonl"
    names = [row["name"] for row in rows]
    answers.write_text("".join(f'{{"name": "{n}", "photograph": "yes"}}\n' for n in names))
    words[2] = tmp_path / "again"
    assert curate(*words, "--answers", answers, "--stage", "map") == 0
    rows, _ = read_verdicts(Curation(tmp_path / "again"), 0)
    assert [row["caption_by"] for row in rows] == [str(tmp_path / "captioner"), "given"]
    assert rows[1]["caption"] == "given words"
