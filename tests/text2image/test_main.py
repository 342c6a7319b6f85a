"""`python -m dofsuite.text2image`: a prompt in, a scene and its photographs out, or one sentence
and exit code 2.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dofsuite.text2image.__main__ import main
from dofsuite.text2image.pipeline import Text2ImagePipeline
from tests.text2image.tiny_run import SIZE_PX, tiny_module, train, untrained_depth


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    train(tiny_module(untrained_depth(root))).export(root / "export")
    return root


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """Generators without a lens, EXIF-conditioned and not."""
    root = tmp_path_factory.mktemp("baseline")
    for name, exif in (("conditioned", ("generator",)), ("unconditioned", ())):
        module = tiny_module(untrained_depth(root), lens=None, exif_conditioned=exif)
        module.export(root / name)
    return root


def run(model, out, *more, prompt="a red ball", f_numbers=("1.8", "22")):
    words = [
        prompt,
        "--f-number",
        *f_numbers,
        "--focal-length",
        "85",
        "--model",
        str(model),
        "-o",
        str(out),
    ]
    return main([*words, *more])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_images_of_an_earlier_run_are_kept_unless_said_otherwise(model, tmp_path, capsys):
    (tmp_path / "f22.png").write_bytes(b"mine")
    assert run(model, tmp_path) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["f22.png"]
    assert run(model, tmp_path, "--overwrite") == 0
    assert (tmp_path / "f22.png").read_bytes() != b"mine"


def test_a_scene_its_depth_photographs_and_a_sheet_are_written(model, tmp_path, capsys):
    assert run(model, tmp_path / "out") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"scene.png", "depth.png", "f1.8.png", "f22.png", "sheet.png"}
    scene, wide, narrow = (
        pixels(tmp_path / "out" / f"{name}.png").astype(int) for name in ("scene", "f1.8", "f22")
    )
    assert scene.shape == (SIZE_PX, SIZE_PX, 3)
    assert abs(wide - scene).mean() > 2 * abs(narrow - scene).mean()
    output = capsys.readouterr().out
    assert "predicted" in output
    assert "nearest" in output
    assert all(str(tmp_path / "out" / name) in output for name in names)


def test_the_depth_map_is_the_scene_s_in_16_bit(model, tmp_path):
    run(model, tmp_path, "--seed", "3")
    depth = Text2ImagePipeline.from_export(model)("a red ball", seed=3).depth[0, 0].numpy()
    with Image.open(tmp_path / "depth.png") as image:
        assert image.mode == "I;16"
        found = np.asarray(image) / 65535 * float(image.text["depth_at_65535"])
    assert np.abs(found - depth).max() < depth.max() / 65535
    assert depth.max() > 1.5 * depth.min()


def test_the_same_command_gives_the_same_files_another_seed_and_focus_others(
    model, tmp_path, capsys
):
    run(model, tmp_path / "a")
    nearest = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("depth:")
    ).split()[1]
    focus = str(float(nearest) * 1.01)
    for name, more in (("b", []), ("c", ["--seed", "1"]), ("d", ["--focus", focus])):
        assert run(model, tmp_path / name, *more) == 0
    assert f"{float(focus):.4g} taken" in capsys.readouterr().out
    files = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in "abcd"
    }
    assert files["a"] == files["b"]
    assert files["a"]["scene.png"] != files["c"]["scene.png"]
    assert files["a"]["scene.png"] == files["d"]["scene.png"]
    assert files["a"]["f1.8.png"] != files["d"]["f1.8.png"]


def test_what_else_lies_in_the_folder_stays(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert run(model, tmp_path) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_baseline_writes_photographs_and_no_scene(baseline, tmp_path, capsys):
    assert run(baseline / "conditioned", tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"f1.8.png", "f22.png", "sheet.png"}
    assert "focus" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "more", "named"),
    [
        ({"f_numbers": ["0"]}, [], "f_number: 0"),
        ({"f_numbers": ["1.8", "nan"]}, [], "f_number: nan"),
        ({"f_numbers": ["wide"]}, [], "--f-number"),
        ({"prompt": " "}, [], "PROMPT"),
        ({}, ["--focal-length", "0"], "focal_length_mm: 0 mm"),
        ({}, ["--focus", "1e5"], "focus: 100000 lies outside"),
        ({}, ["--focus", "nan"], "focus: nan lies outside"),
        ({}, ["--sede", "1"], "--sede"),
    ],
)
def test_invalid_options_are_one_sentence_and_writes_nothing(
    model, tmp_path, capsys, words, more, named
):
    assert run(model, tmp_path / "out", *more, **words) == 2
    output = capsys.readouterr()
    assert named in output.err
    assert "\n" not in output.err.strip()
    assert output.out == ""
    assert not (tmp_path / "out").exists()


def test_a_missing_prompt_model_or_lens_and_a_file_in_the_way_are_named(
    model, baseline, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    cases = [
        (lambda: main(["--f-number", "2", "-o", str(tmp_path / "out")]), "PROMPT"),
        (lambda: run(tmp_path / "none", tmp_path / "out"), "none: --model"),
        (lambda: run(baseline / "unconditioned", tmp_path / "out"), "neither a lens nor EXIF"),
        (lambda: run(baseline / "conditioned", tmp_path / "out", "--focus", "2"), "--focus"),
        (lambda: run(model, tmp_path / "file"), "--output"),
        (
            lambda: run(model, tmp_path / "file" / "out"),
            "--output: it cannot be written (Not a directory)",
        ),
        (
            lambda: run(model, Path("/proc/xx")),
            "--output: it cannot be written (No such file or directory)",
        ),
    ]
    for act, named in cases:
        assert act() == 2
        output = capsys.readouterr().err.strip()
        assert named in output
        assert "\n" not in output
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_folder_that_cannot_be_written_is_known_before_a_model_is_loaded(tmp_path, capsys):
    """Only the model's settings lie there: whoever loads it fails otherwise."""
    settings = {
        "backbone": {},
        "depth": {},
        "lens": {},
        "few_steps": [999],
        "size_px": 32,
        "exif": [],
    }
    (tmp_path / "text2image.json").write_text(json.dumps(settings))
    assert run(tmp_path, Path("/proc/xx")) == 2
    assert capsys.readouterr().err.startswith("/proc/xx: --output:")


@pytest.mark.parametrize("text", ["", '{"lens": null', "[]", '{"lens": null}'])
def test_damaged_settings_are_one_sentence(tmp_path, capsys, text):
    (tmp_path / "text2image.json").write_text(text)
    assert run(tmp_path, tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / 'text2image.json'}: --model: this file is damaged; take a whole copy of the "
        "export.\n"
    )
