"""The text-to-image table: every shipped row on tiny networks, killed and continued, by one process
and by two.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dofsuite.evaluate import main
from tests.evaluation.text2image.tiny_text2image import (
    BASELINES,
    command,
    make_runs,
    start,
    tiny_method,
)

PROMPTS = (
    "a red disc in the middle in front of grass\n\n# not this\n"
    "a blue box on the left in front of bricks\n"
)
OWN_SCENE = ("8_sdxl_fixed_occlusion", "8_deep_taf", "ours")
"""Rows that photograph one scene at every aperture."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text2image")
    runs = make_runs(folder / "runs")
    for file in BASELINES:
        tiny_method(file, runs, folder / "methods")
    (folder / "prompts.txt").write_text(PROMPTS)
    return folder


@pytest.fixture(scope="module")
def words(folder) -> list[str]:
    return command(
        sorted((folder / "methods").glob("*.yaml")), folder / "prompts.txt", folder / "complete"
    )


@pytest.fixture(scope="module")
def complete(folder, words) -> dict:
    assert main(words) == 0
    return json.loads((folder / "complete" / "report.json").read_text())


def sweep_of(folder: Path, stem: str, prompt: int) -> list[np.ndarray]:
    (images,) = (folder / "pictures" / stem).glob(f"{prompt:04d}-*")
    return [np.asarray(Image.open(images / f"f{number}.png")) for number in ("1.8", "4", "11")]


def test_every_row_runs(folder, complete):
    scores, energies = complete["tables"]
    assert len(scores["rows"]) == len(BASELINES) == 9
    for row in scores["rows"]:
        values = row["values"]
        assert 0 <= values["BM ac"] + values["ties ac"] <= 1
        assert 0 < values["CC"] <= 1
        assert values["CLIP-I"] is None
        assert values["KID"] is None
    for row in energies["rows"]:
        assert row["values"]["f/11"] == 1
    for file in BASELINES:
        for prompt in (0, 1):
            sweep = sweep_of(folder / "complete", file.stem, prompt)
            assert len({image.tobytes() for image in sweep}) == 3, (
                file.stem
            )  # every row hears the camera
            assert sweep[0].shape == (32, 32, 3)


def test_a_lens_after_one_scene_only_blurs(folder, complete):
    names = {
        file.stem: row for file, row in zip(BASELINES, complete["tables"][0]["rows"], strict=True)
    }
    for stem in OWN_SCENE:
        assert names[stem]["values"]["BM ac"] == 1
        first, *_, last = (image.astype(float) for image in sweep_of(folder / "complete", stem, 0))
        for axis in (0, 1):
            assert (
                np.abs(np.diff(first, axis=axis)).mean() < np.abs(np.diff(last, axis=axis)).mean()
            )


def test_the_table_is_in_the_order_of_the_command(folder, complete):
    assert [row["name"] for row in complete["tables"][0]["rows"]][-1] == "Ours"
    paper = complete["tables"][0]["blocks"][-1]
    assert paper["title"].startswith("The paper's own numbers")
    assert paper["rows"][0]["values"]["BM paper"] == 0.4847
    assert (
        "top 1 of 9 classes, all pairs; chance is 0.111" in complete["facts"]["content consistency"]
    )
    html = (folder / "complete" / "report.html").read_text()
    assert html.count("<img") == 2 * len(BASELINES) * 3


def test_blur_monotonicity_is_that_of_the_images(folder, complete):
    """From the files, with NumPy."""
    for file, row in zip(BASELINES, complete["tables"][0]["rows"], strict=True):
        increases: dict[str, list[bool]] = {"ac": [], "paper": []}
        for prompt in (0, 1):
            sweep = [image / 255.0 for image in sweep_of(folder / "complete", file.stem, prompt)]
            energy = {
                "ac": [((x - x.mean(axis=(0, 1))) ** 2).sum() for x in sweep],
                "paper": [(np.abs(np.fft.fft2(x, axes=(0, 1))) ** 2).sum() for x in sweep],
            }
            for mode, values in energy.items():
                increases[mode] += [b > a for a, b in pairwise(values)]
        for mode, steps in increases.items():
            assert row["values"][f"BM {mode}"] == np.mean(steps)


@pytest.mark.slow  # a minute
def test_two_processes_one_of_them_killed_and_continued_make_the_table_of_one(
    folder, words, complete, monkeypatch
):
    stems = ("2_sdxl_words", "4_distilled_exif", "5_camera_tokens_depth", "ours")
    methods = [word for word in words if word.endswith(".yaml")]
    kept = [method for method in methods if Path(method).stem in stems]
    words = [
        word.replace("complete", "shared") for word in (words[0], *kept, *words[1 + len(methods) :])
    ]
    rows = folder / "shared" / "rows"
    first, killed = (start(words, rank, 2) for rank in (0, 1))
    while not list(rows.glob("*/row-0001-*.json")):
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    out, error = first.communicate()
    assert first.returncode == 0, error
    assert "other processes still compute rows" in out
    assert len(list(rows.glob("*/row-0000-*.json"))) == 4
    before = {file: file.stat().st_mtime_ns for file in rows.glob("*/row-*.json")}
    assert len(before) < len(BASELINES)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(words) == 0
    assert all(file.stat().st_mtime_ns == written for file, written in before.items())
    tables = json.loads((folder / "shared" / "report.json").read_text())["tables"]
    chosen = [number for number, method in enumerate(methods) if Path(method).stem in stems]
    for table, of_complete in zip(tables, complete["tables"], strict=True):
        assert table["rows"] == [of_complete["rows"][number] for number in chosen]


def test_a_method_joins_a_table_and_one_retrained_does_not(folder, words, complete, capsys):
    methods = sorted((folder / "methods").glob("*.yaml"))
    exported = next(file for file in methods if file.stem == "4_distilled_exif")
    pair = [str(methods[0]), str(exported)]
    joined = [word.replace("complete", "joined") for word in words]
    assert main([joined[0], str(methods[0]), *joined[1 + len(methods) :]]) == 0
    first = next((folder / "joined" / "rows").glob(f"{methods[0].stem}-*/row-*"))
    written = first.stat().st_mtime_ns
    assert main([joined[0], *pair, *joined[1 + len(methods) :]]) == 0
    assert first.stat().st_mtime_ns == written
    assert (
        len(json.loads((folder / "joined" / "report.json").read_text())["tables"][0]["rows"]) == 2
    )
    weights = folder / "runs" / "text2image_exif" / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    weights.write_bytes(data)  # the same weights, copied a moment ago
    assert main([joined[0], *pair, *joined[1 + len(methods) :]]) == 0
    assert first.stat().st_mtime_ns == written
    data[-1] ^= 1
    capsys.readouterr()
    weights.write_bytes(data)
    assert main([joined[0], *pair, *joined[1 + len(methods) :]]) == 2
    data[-1] ^= 1
    weights.write_bytes(data)
    said = capsys.readouterr().err
    assert f"pictures/{exported.stem}/settings.json: sources.weights." in said
    assert len(said) < 500


def images_in(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("pictures/**/*.png")}


def test_other_scores_and_prompts_of_a_finished_table_leave_its_images(
    folder, words, complete, tmp_path, capsys
):
    methods = [word for word in words if word.endswith(".yaml")]
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    options = [
        word.replace(str(folder / "prompts.txt"), str(tmp_path / "prompts.txt")) for word in words
    ]
    options = [
        word.replace(str(folder / "complete"), str(tmp_path / "out"))
        for word in options[1 + len(methods) :]
    ]
    command = [
        words[0],
        next(method for method in methods if method.endswith("ours.yaml")),
        *options,
    ]
    assert main(command) == 0
    kept = images_in(tmp_path / "out")
    assert len(kept) == 2 * 3
    assert main([*command, "--segmenter", "none"]) == 0
    values = json.loads((tmp_path / "out" / "report.json").read_text())["tables"][0]["rows"][0][
        "values"
    ]
    before = complete["tables"][0]["rows"][-1]["values"]
    assert values == before | {"CC": None}
    (tmp_path / "prompts.txt").write_text(PROMPTS + "a green disc\n")
    assert main(command) == 0
    joined = images_in(tmp_path / "out")
    assert joined.items() > kept.items()
    assert len(joined) == 3 * 3
    (tmp_path / "prompts.txt").write_text(PROMPTS.replace("a red disc", "a blue disc"))
    assert main(command) == 0  # the second prompt stays, the first is another
    assert len(images_in(tmp_path / "out")) == 4 * 3
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    assert main([*command, "--top-k", "2"]) == 0
    assert images_in(tmp_path / "out").items() > joined.items()
    capsys.readouterr()
    assert main([*command, "--seed", "1"]) == 2
    assert (
        "pictures/ours/settings.json: seed: these rows were computed with 0, not 1"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--f-numbers", "4", "1.8"], "--f-numbers: a sweep needs at least two, rising"),
        (["--f-numbers", "1.8", "900"], "f_number: 900 is not a camera's"),
        (["--prompts", "nowhere.txt"], "nowhere.txt: --prompts: no such file or set"),
        (["--compared", "5.6"], "--compared: an f-number that is none of --f-numbers"),
        (["--count", "0"], "--count: must be at least 1"),
        (["--focal-length", "0"], "focal_length_mm: 0 mm is not a camera's"),
        (["--photographs", "nowhere"], "nowhere: --photographs: no such set"),
        (["--features", "magic"], "argument --features: invalid choice"),
        (["--top-k", "10"], "--top-k: the segmenter colors has 9 classes; choose fewer"),
        (
            [
                "--count",
                "1",
                "--compared",
                "1.8",
                "--photographs",
                "synthetic:shallow_val",
                "--features",
                "small",
            ],
            "--photographs: KID and FID need two images and photographs at least, not 1 and ",
        ),
    ],
)
def test_a_mistake_is_one_sentence(folder, words, change, said, capsys):
    words = [word.replace("complete", "mistaken") for word in words]
    methods = [word for word in words if word.endswith("ours.yaml")]
    assert main([words[0], *methods, *words[1 + len(BASELINES) :], *change]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert not (folder / "mistaken").exists()


def test_a_clip_that_cannot_be_loaded_is_a_note(folder, words, complete, tmp_path, capsys):
    """The pictures that are there are scored again, without it."""
    shutil.copytree(folder / "complete" / "pictures", tmp_path / "out" / "pictures")
    again = [word.replace(str(folder / "complete"), str(tmp_path / "out")) for word in words]
    assert main([*again, "--clip", str(tmp_path / "nowhere")]) == 0
    assert "CLIP-I: empty, because it cannot be loaded here" in capsys.readouterr().err
    tables = json.loads((tmp_path / "out" / "report.json").read_text())["tables"]
    assert tables[0]["rows"] == complete["tables"][0]["rows"]
    assert any(note.startswith("CLIP-I: empty") for note in tables[0]["notes"])
    assert any("base the small network that comes" in note for note in tables[0]["notes"])
