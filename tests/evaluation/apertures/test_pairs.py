"""`evaluate pairs`: shares known in closed form, a perfect lens in light and in display values,
sets, and mistakes.
"""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.data.importers.aperture_scenes import find_scenes, scene_and_f_number
from dofsuite.data.synthetic.photo_scenes import scenes
from dofsuite.data.synthetic.sets import RECIPES
from dofsuite.evaluate import main
from dofsuite.metrics import BlurMonotonicity
from dofsuite.optics import bokeh_radius_px, linear_to_srgb, render_bokeh, srgb_to_linear


def save(path, image):
    """Write display values [3, h, w] in [0, 1], or bytes [h, w]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, torch.Tensor):
        image = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(image).convert("RGB").save(path, quality=95)


def save_pair(root, name, shallow, deep, extension="png"):
    save(root / "Training" / "bokeh" / f"{name}.{extension}", shallow)
    save(root / "Training" / "original" / f"{name}.{extension}", deep)


def chequered(mean, contrast, size=16):
    """A chessboard of mean - contrast and mean + contrast, bytes: sum of squares h w (mean^2 +
    contrast^2).
    """
    board = np.indices((size, size)).sum(0) % 2 * 2 - 1
    return (mean + contrast * board).astype(np.uint8)


def report(folder, output, *more):
    """Run the command; the rows of its table by name."""
    assert main(["pairs", str(folder), "-o", str(output), *more]) == 0
    table = json.loads((output / "report.json").read_text())["tables"][0]
    rows = [*table["rows"], *table["blocks"][0]["rows"]]
    return {row["name"]: row["values"] for row in rows}, table["notes"]


def test_shares_of_chessboards_are_those_of_the_closed_form(tmp_path):
    """mean^2 + contrast^2 orders the paper's energy, contrast^2 the one without the mean."""
    pairs = [  # (mean, contrast) at f/1.8, at f/16
        ((100, 10), (100, 40)),  # sharper: both rise
        ((100, 40), (110, 10)),  # brighter, less sharp: paper rises (11600 < 12200), ac falls
        ((110, 10), (100, 40)),  # darker, sharper: paper falls, ac rises
        ((120, 20), (130, 20)),  # brighter alone: paper rises, ac is a tie
        ((90, 50), (90, 50)),  # the same: ties
    ]
    for number, (shallow, deep) in enumerate(pairs):
        save_pair(tmp_path / "ebb", number, chequered(*shallow), chequered(*deep))
    found, notes = report(tmp_path / "ebb", tmp_path / "out")
    row = found["f/1.8 and f/16"]
    assert (row["pairs"], row["paper"], row["ac"]) == (5, 3 / 5, 2 / 5)
    assert row["ties (ac)"] == 2 / 5
    ratios = sorted(deep[0] / shallow[0] for shallow, deep in pairs)
    assert row["brightness ratio"] == pytest.approx(ratios[2], abs=1e-6)
    # the paper's order is brightness's in: no (level), yes, yes, yes, yes (both tied)
    assert row["order of brightness"] == 4 / 5
    assert found["EBB!"]["paper"] == 0.96
    assert any(note.startswith("paper: 0.6000, with a 95 % interval of") for note in notes)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 pairs fail in paper" in page
    assert "3 pairs fail in ac" in page


@pytest.mark.parametrize("blurs", ["light", "display values"])
def test_a_perfect_lens(tmp_path, blurs):
    """The theorem holds for the values that the lens blurs: of light, the paper's energy of display
    pixels is lost.
    """
    to, back = (srgb_to_linear, linear_to_srgb) if blurs == "light" else (torch.clone, torch.clone)
    for number, scene in enumerate(islice(scenes(RECIPES["val"]), 12)):
        image = torch.from_numpy(scene.image_srgb.copy()).permute(2, 0, 1)[None].double() / 255
        disparity = torch.from_numpy(np.array(scene.disparity, dtype=np.float64))[None, None]
        shallow, deep = (
            back(render_bokeh(to(image), bokeh_radius_px(disparity, disparity.max(), level, 64)))[0]
            for level in (40.0, 1.0)
        )
        save_pair(tmp_path / "ebb", number, shallow, deep)
    row = report(tmp_path / "ebb", tmp_path / "out")[0]["f/1.8 and f/16"]
    assert row["ac"] == 1
    assert row["ac, in light"] == 1
    if blurs == "light":
        assert row["paper"] <= 0.12
        assert row["paper, in light"] == 1
        assert row["brightness ratio"] < 1  # blurred light is brighter on the screen
    else:
        assert row["paper"] == 1


def noise(seed, contrast, size=(24, 20)):
    values = torch.rand(3, *size, generator=torch.Generator().manual_seed(seed)) - 0.5
    return 0.5 + contrast * values


def test_sets_of_several_apertures_agree_with_the_metric(tmp_path):
    """RealBokeh_3MP's layout, ids that begin anew in each split; the same shares as
    `BlurMonotonicity`.
    """
    contrasts = {"train/1": (0.2, 0.3, 0.5), "train/2": (0.3, 0.2, 0.4), "test/1": (0.4, 0.3, 0.2)}
    sweeps = []
    for seed, (key, own) in enumerate(contrasts.items()):
        split, name = key.split("/")
        images = [(noise(seed, contrast) * 255).round() / 255 for contrast in own]
        save(tmp_path / "set" / split / "gt" / name / f"{name}_f2.0.png", images[0])
        save(tmp_path / "set" / split / "gt" / name / f"{name}_f5.6.png", images[1])
        save(tmp_path / "set" / split / "in" / f"{name}_f22.png", images[2])
        sweeps.append(torch.stack(images))
    assert [scene.key for scene in find_scenes(tmp_path / "set").scenes] == [
        "test/1",
        "train/1",
        "train/2",
    ]
    found, _ = report(tmp_path / "set", tmp_path / "out")
    for pairs, row in (("all", "all pairs of apertures"), ("adjacent", "neighbouring apertures")):
        for mode in ("paper", "ac"):
            metric = BlurMonotonicity([2, 5.6, 22], mode, pairs)
            metric.update(torch.stack(sweeps))
            assert found[row][mode] == metric.compute().item()
    assert found["largest and smallest"]["ac"] == pytest.approx(2 / 3)
    assert found["f/2 and f/22"]["ac"] == pytest.approx(2 / 3)
    assert found["f/5.6 and f/22"]["ac"] == pytest.approx(2 / 3)
    assert found["all pairs of apertures"]["pairs"] == 9


def test_places_of_both_layouts():
    assert scene_and_f_number(Path("Training/bokeh/12.jpg")) == ("Training/12", 1.8)
    assert scene_and_f_number(Path("Training/original/12.jpg")) == ("Training/12", 16.0)
    assert (
        scene_and_f_number(Path("train/gt/7/7_f2.8.JPG"))
        == scene_and_f_number(Path("train/in/7_f2.8.JPG"))
        == ("train/7", 2.8)
    )
    assert scene_and_f_number(Path("scene_a-F16.png")) == ("scene_a", 16.0)
    assert scene_and_f_number(Path("holiday/photo.jpg")) is None


def test_jpeg_is_read_and_what_has_no_partner_or_another_size_is_left_out(tmp_path):
    save_pair(tmp_path / "ebb", "a", chequered(100, 10), chequered(100, 40), "jpg")
    save_pair(tmp_path / "ebb", "b", chequered(100, 10), chequered(100, 40, size=18), "jpg")
    save(tmp_path / "ebb" / "Training" / "bokeh" / "c.jpg", chequered(100, 10))
    found, notes = report(tmp_path / "ebb", tmp_path / "out")
    assert found["f/1.8 and f/16"]["pairs"] == 1
    assert "1 scenes left out, whose images differ in size, such as Training/b" in notes
    assert "1 images left out, which have no partner, such as c.jpg" in notes


def test_three_processes_and_a_second_start_give_the_same_report(tmp_path, monkeypatch):
    for number in range(7):
        save_pair(tmp_path / "ebb", number, noise(number, 0.2), noise(number, 0.1 * number))
    report(tmp_path / "ebb", tmp_path / "one")
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in (2, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        assert main(["pairs", str(tmp_path / "ebb"), "-o", str(tmp_path / "three")]) == 0
        assert (tmp_path / "three" / "report.json").is_file() == (rank == 1)
    for kind in ("md", "json", "html"):
        assert (tmp_path / "one" / f"report.{kind}").read_bytes() == (
            tmp_path / "three" / f"report.{kind}"
        ).read_bytes()


def test_images_that_changed_are_measured_anew(tmp_path):
    save_pair(tmp_path / "ebb", "a", noise(0, 0.2), noise(0, 0.4))
    assert report(tmp_path / "ebb", tmp_path / "out")[0]["f/1.8 and f/16"]["ac"] == 1
    save_pair(tmp_path / "ebb", "a", noise(0, 0.5), noise(1, 0.4))
    assert report(tmp_path / "ebb", tmp_path / "out")[0]["f/1.8 and f/16"]["ac"] == 0


def test_mistakes_are_one_sentence(tmp_path, capsys):
    assert main(["pairs", str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    save(tmp_path / "photos" / "a.jpg", chequered(100, 10))
    assert main(["pairs", str(tmp_path / "photos")]) == 2
    assert "no scene at two apertures; it needs original/ and bokeh/" in capsys.readouterr().err
    save_pair(tmp_path / "unlike", "b", chequered(100, 10), chequered(100, 40, size=18))
    assert main(["pairs", str(tmp_path / "unlike"), "-o", str(tmp_path / "out")]) == 2
    assert "align and crop them first" in capsys.readouterr().err
