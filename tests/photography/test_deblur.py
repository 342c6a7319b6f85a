"""`python -m dofsuite.lens --deblur` from files to files, with a network whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.backbones import SmallDeblur
from dofsuite.backbones.small.deblur import save_deblur
from dofsuite.lens import main

WORDS = ("--depth", "plane")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network that adds a tenth to every value."""
    model = SmallDeblur(weights=None, width=4, blocks=(1,), radii=2, reach_px=16).load()
    model.network.choice.last.bias.data[0] = 10  # sharp, without a doubt
    model.network.last.bias.data[:] = 0.1
    save_deblur(model, tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 200, (37, 54, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def values_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)


def lens(*words: object) -> int:
    return main([str(word) for word in words])


def test_deblurring_alone_writes_the_network_s_answer_at_full_size(
    photo: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--deblur", weights, "-o")
    assert lens(photo, *words, tmp_path / "out.png") == 0
    assert np.abs(values_of(tmp_path / "out.png") - values_of(photo) - 25.5).max() <= 0.6
    assert "54x37, deblurred" in capsys.readouterr().out
    # A folder names it; gray stays gray, opacity stays
    gray = Image.open(photo).convert("LA")
    gray.putalpha(77)
    gray.save(tmp_path / "gray.png")
    assert lens(tmp_path / "gray.png", *words, tmp_path / "many") == 0
    written = Image.open(tmp_path / "many" / "gray_deblurred.png")
    assert written.mode == "LA"
    assert set(np.asarray(written)[..., 1].ravel()) == {77}


def test_a_lens_then_blurs_the_restored_photograph(
    photo: Path, weights: Path, tmp_path: Path
) -> None:
    sharpen = ("--deblur", weights)
    assert lens(photo, *sharpen, "-o", tmp_path / "first.png") == 0
    blur = ("--focus", "0.5,0.9", "--bokeh", "30", *WORDS, "-o")
    assert lens(tmp_path / "first.png", *blur, tmp_path / "second.png") == 0
    assert lens(photo, *sharpen, *blur, tmp_path / "both.png") == 0
    difference = values_of(tmp_path / "second.png") - values_of(tmp_path / "both.png")
    assert np.abs(difference).max() <= 1
    assert np.abs(values_of(tmp_path / "both.png") - values_of(tmp_path / "first.png")).max() > 5


def test_the_packaged_network_needs_no_folder(photo: Path, tmp_path: Path) -> None:
    assert lens(photo, "--deblur", "packaged", "-o", tmp_path / "out.png") == 0
    values = torch.from_numpy(values_of(photo)).permute(2, 0, 1).float() / 255
    expected = SmallDeblur().load().restore(values).permute(1, 2, 0) * 255
    assert np.abs(values_of(tmp_path / "out.png") - expected.numpy()).max() <= 0.6


def test_mistakes_are_one_sentence(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("-o", tmp_path / "out.png")
    cases = [
        (("--deblur", tmp_path, "--focus", "0.5,0.5"), "give --bokeh B or --f-number N"),
        (("--deblur", tmp_path), "holds no small deblur network"),
        (("--deblur", tmp_path, "--animate", "webp"), "one picture does not move"),
    ]
    for words, said in cases:
        assert lens(photo, *words, *out) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1


def test_opacity_and_values_of_a_tile_stay_in_range(weights: Path) -> None:
    model = SmallDeblur(weights=str(weights)).load()
    bright = torch.ones(3, 20, 20)
    assert torch.equal(model.restore(bright, tile_px=8), bright)
