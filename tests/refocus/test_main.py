"""`python -m dofsuite.refocus`: any photograph in, one picture out, or one sentence and exit code 2."""

import numpy as np
import pytest
from PIL import Image

from dofsuite.refocus.__main__ import main
from tests.refocus.tiny import tiny_module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    module = tiny_module()
    module.trained_size_px = 32
    folder = tmp_path_factory.mktemp("run")
    module.export(folder / "export")
    return folder


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    return path


def run(photo, model, out, *more, focus="0.3,0.6", bokeh="8"):
    return main([str(photo), "--focus", focus, "--bokeh", bokeh, "--model", str(model), "-o", str(out), *more])


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.webp"])
def test_a_photograph_is_refocused_in_its_shape(photo, model, tmp_path, name, capsys):
    assert run(photo, model, tmp_path / name) == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (40, 28)
    assert "40x28" in capsys.readouterr().out


def test_a_depth_map_changes_the_picture_and_the_same_seed_does_not(photo, model, tmp_path):
    depth = tmp_path / "photo_depth.png"
    ramp = np.linspace(0, 65535, 60 * 90).reshape(60, 90).astype(np.uint16)
    Image.fromarray(ramp).save(depth)
    for name, more in (("a", []), ("b", []), ("c", ["--depth", str(depth)]), ("d", ["--seed", "1"])):
        assert run(photo, model, tmp_path / f"{name}.png", *more) == 0
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in "abcd"]
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", ".png"), ("CMYK", ".jpg"), ("L", ".png"), ("I;16", ".png"), ("P", ".png")]
)
def test_any_kind_of_picture_is_read(mode, suffix, model, tmp_path):
    path = tmp_path / f"photo{suffix}"
    picture = Image.new("I;16", (40, 40)) if mode == "I;16" else Image.new("RGB", (40, 40), "teal").convert(mode)
    picture.save(path)
    assert run(path, model, tmp_path / "out.png") == 0


def test_an_exif_rotated_photograph_comes_out_upright(photo, model, tmp_path):
    rotated = tmp_path / "rotated.jpg"
    with Image.open(photo) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(rotated, exif=exif)
    assert run(rotated, model, tmp_path / "out.png") == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width < picture.height


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"focus": "0.3"}, "--focus"),
        ({"focus": "1.3,0.5"}, "--focus"),
        ({"bokeh": "-1"}, "--bokeh"),
        ({"bokeh": "nan"}, "--bokeh"),
        ({"bokeh": "much"}, "--bokeh"),
    ],
)
def test_a_camera_that_cannot_be_is_one_sentence(photo, model, tmp_path, capsys, words, named):
    assert run(photo, model, tmp_path / "out.png", **words) == 2
    said = capsys.readouterr().err.strip()
    assert named in said
    assert "\n" not in said
    assert not (tmp_path / "out.png").exists()


def test_wrong_files_are_named(photo, model, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    np.save(tmp_path / "nan.npy", np.full((60, 90), np.nan, dtype=np.float32))
    np.save(tmp_path / "small.npy", np.ones((6, 9), dtype=np.float32))
    cases = [
        ([tmp_path / "none.png", model, tmp_path / "o.png"], "none.png"),
        ([tmp_path / "text.png", model, tmp_path / "o.png"], "text.png"),
        ([tmp_path / "dot.png", model, tmp_path / "o.png"], "dot.png"),
        ([photo, tmp_path, tmp_path / "o.png"], "--model"),
        ([photo, model, tmp_path / "o.gif"], "o.gif"),
        ([photo, model, tmp_path / "o.png", "--depth", str(tmp_path / "nan.npy")], "nan.npy"),
        ([photo, model, tmp_path / "o.png", "--depth", str(tmp_path / "small.npy")], "small.npy"),
        ([photo, model, tmp_path / "o.png", "--steps", "0"], "--steps"),
    ]
    for words, named in cases:
        assert run(*words) == 2
        said = capsys.readouterr().err.strip()
        assert named in said
        assert "\n" not in said
    assert not (tmp_path / "o.png").exists()
