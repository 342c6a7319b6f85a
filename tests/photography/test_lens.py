"""`python -m dofsuite.lens` from files to files."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.lens import main
from dofsuite.optics import Aperture, linear_to_srgb, render_bokeh, srgb_to_linear
from dofsuite.photography.camera import radius_of
from dofsuite.photography.config import LensConfig
from dofsuite.photography.photo import Photo
from dofsuite.photography.photo_file import read_photo
from dofsuite.photography.scene_depth import SceneDepth
from dofsuite.photography.sweep import variants_of
from tests.optics.photographs import shared_data
from tests.photography.color_profiles import rgb_profile

SIZE = (48, 72)


@pytest.fixture
def folder(tmp_path):
    """Two photographs with 35-mm EXIF, and a depth map that rises to the right."""
    generator = np.random.default_rng(0)
    for name in ("one", "two"):
        values = generator.integers(0, 256, (12, 18, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        exif = Image.Exif()
        exif.get_ifd(0x8769).update({0x920A: 50.0, 0xA405: 75, 0x829D: 8.0})
        Image.fromarray(values).save(tmp_path / f"{name}.png", exif=exif.tobytes())
    ramp = np.linspace(0, 255, SIZE[1]).round().astype(np.uint8)
    depth_map = Image.fromarray(np.broadcast_to(ramp, SIZE).copy())
    (tmp_path / "depths").mkdir()
    for path in ("ramp.png", "depths/one.png", "depths/two.png"):
        depth_map.save(tmp_path / path)
    return tmp_path


def lens(*words: object) -> int:
    return main([str(word) for word in words])


def values(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


@pytest.mark.parametrize(
    ("shape", "aperture"),
    [
        ((), Aperture()),
        (
            ("--blades", 5, "--blade-rotation", -20, "--cat-eye", 0.5),
            Aperture(blades=5, rotation_deg=-20.0, cat_eye=0.5),
        ),
    ],
)
def test_the_picture_is_the_renderer_s(folder, shape, aperture):
    """Focus at a disparity, b = 40 px at 512: radius = 40 (72 / 512) (d - d_f)."""
    words = ("--focus-disparity", 0.5, "--bokeh", 40, "--depth", folder / "ramp.png", *shape)
    assert lens(folder / "one.png", *words, "-o", folder / "out.png") == 0
    disparity = torch.from_numpy(values(folder / "ramp.png")[..., 0] / 255).float()
    light = srgb_to_linear(torch.from_numpy(values(folder / "one.png") / 255).float())
    radius_px = 40 * 72 / 512 * (disparity - 0.5)
    images = light.permute(2, 0, 1)[None], radius_px[None, None]
    expected = render_bokeh(*images, "occlusion", aperture=aperture)[0]
    expected = 255 * linear_to_srgb(expected).permute(1, 2, 0).numpy()
    assert np.abs(values(folder / "out.png") - expected).max() <= 0.51


def test_the_thin_lens_of_an_aps_c_camera(folder):
    """EXIF: 50 mm, as 75 on full frame: 23.5 mm across 72 px; focus 2 m away at disparity 1."""
    config = LensConfig(
        photos=(), focus_disparity=(1.0,), f_number=(2.0,), output=folder / "x", focus_m=2.0
    )
    depth = SceneDepth(torch.tensor([0.0, 0.5, 1.0]).expand(1, 1, 48, 3).repeat(1, 1, 1, 24))
    radius_px, _ = radius_of(config, read_photo(folder / "one.png"), depth, variants_of(config)[0])
    # c = F^2 / (N (S - F)) |1 - S / Z|; Z = inf and 4 m where disparity is 0 and 0.5
    coc_mm = [50**2 / (2 * (2000 - 50)) * (1 - ratio) for ratio in (0.0, 0.5, 1.0)]
    expected = [-coc / 2 / (23.5 / 72) for coc in coc_mm]
    assert radius_px[0, 0, :3].tolist() == pytest.approx(expected, abs=1e-5)


def test_focus_at_infinity_is_the_thin_lens_s_limit(folder):
    """c = F^2 / (N Z) for Z = 2 m, and nothing for what is infinitely far itself."""
    config = LensConfig(
        photos=(),
        focus_disparity=(0.0,),
        f_number=(2.0,),
        focal_length_mm=50.0,
        output=folder,
    )
    disparity = torch.tensor([0.0, 1.0]).expand(1, 1, 48, 2).repeat(1, 1, 1, 36)
    depth, variant = SceneDepth(disparity, (0.0, 0.5)), variants_of(config)[0]
    radius_px, taken = radius_of(config, read_photo(folder / "one.png"), depth, variant)
    expected = 50**2 / (2 * 2000) / 2 / (36 / 72)
    assert radius_px[0, 0, :2].tolist() == pytest.approx([0.0, expected])
    assert "focus at inf m" in taken


def test_a_sensor_width_keeps_the_angle_of_view(folder):
    """Full frame at the same view: focal length and blur, as a share of the frame, x 36 / 23.5."""
    photo, depth = read_photo(folder / "one.png"), SceneDepth(torch.zeros(1, 1, *SIZE))

    def radius(**options: float) -> float:
        config = LensConfig(
            photos=(), focus_disparity=(1.0,), f_number=(2.0,), output=folder, **options
        )
        return float(radius_of(config, photo, depth, variants_of(config)[0])[0].min())

    ratio = radius(sensor_width_mm=36.0, focus_m=1e6) / radius(focus_m=1e6)
    assert ratio == pytest.approx(36 / 23.5, rel=1e-4)


def test_a_sweep_over_a_folder(folder, capsys):
    words = ("--focus", "0.2,0.5", "0.8,0.5", "--bokeh", 5, 20, "--depth", folder / "depths")
    (folder / "photos").mkdir()
    for name in ("one.png", "two.png"):
        (folder / name).rename(folder / "photos" / name)
    assert lens(folder / "photos", *words, "--animate", "webp", "-o", folder / "out") == 0
    names = {path.name for path in (folder / "out").iterdir()}
    stills = {
        f"{photo}_focus{x},0.5_bokeh{level}.png"
        for photo in ("one", "two")
        for x in ("0.2", "0.8")
        for level in (5, 20)
    }
    assert names == stills | {"one.webp", "two.webp"}
    assert Image.open(folder / "out" / "one.webp").n_frames == 6
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_one_bad_file_leaves_the_others_done(folder, capsys):
    (folder / "bad.jpg").write_text("no photograph")
    photos = (folder / "one.png", folder / "bad.jpg", folder / "two.png")
    words = ("--focus", "0.5,0.5", "--bokeh", 5, "--depth", "plane", "-o", folder / "out")
    assert lens(*photos, *words) == 2
    assert {path.name for path in (folder / "out").iterdir()} == {
        "one_bokeh5.png",
        "two_bokeh5.png",
    }
    errors = capsys.readouterr().err.splitlines()
    assert "bad.jpg: it is not a" in errors[0]
    assert errors[-1] == "lens: 1 of 3 photographs were left out."


def test_opacity_is_blurred_with_the_light(folder):
    """An opaque red square over nothing: its edge turns transparent, never darker."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (16, 16, 48, 48))
    image.save(folder / "square.png")
    words = ("--focus-disparity", 0, "--bokeh", 60, "--plane", "0.5,0,0.5,1", "--depth", "plane")
    assert lens(folder / "square.png", *words, "-o", folder / "out.png") == 0
    blurred = np.asarray(Image.open(folder / "out.png")).astype(int)
    soft = (blurred[..., 3] > 20) & (blurred[..., 3] < 235)
    assert soft.sum() > 100
    assert blurred[soft][:, 0].min() >= 254


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("one.png --focus 0.5,0.5 --bokeh 5 -o one.png", "it is an input"),
        ("one.png --focus 0.5,0.5 --bokeh 5 -o two.png", "it exists"),
        ("one.png --focus 0.5,0.5 --bokeh 5 --depth ramp.png -o ramp.png", "it is an input"),
        (
            "one.png --focus 0.5,0.5 --bokeh 5 --depth depths --overwrite -o depths/two.png",
            "it is an input",
        ),
        ("one.png --focus 0.5,0.5 --bokeh 5 9 -o new.png", "2 pictures need a folder"),
        ("one.png --focus 0.5,0.5 --bokeh 5 -o new.bmp", "must end in .jpg"),
        ("one.png --focus 0.5,0.5 --f-number 0 -o new.png", "--f-number: 0 must be above 0"),
        ("one.png --focus 1.5,0.5 --bokeh 5 -o new.png", "lies outside"),
        ("one.png --focus 0.5,0.5 --bokeh -1 -o new.png", "--bokeh: -1"),
        (
            "one.png --focus 0.5,0.5 --bokeh 5 --blades 2 -o new.png",
            "--blades: 2 must be at least 3",
        ),
        ("one.png --focus 0.5,0.5 --bokeh 5 --blade-rotation 9 -o new.png", "add --blades N"),
        ("one.png --focus 0.5,0.5 --bokeh 5 --cat-eye 1 -o new.png", "--cat-eye: 1 must be"),
        (
            "one.png --focus 0.5,0.5 --bokeh 5 --cat-eye 0.5 --method gather -o new.png",
            "--method gather: it has a round aperture only",
        ),
        ("one.png --focus 0.5,0.5 -o new.png", "--bokeh B or --f-number N"),
        ("one.png --bokeh 5 -o new.png", "give --focus X,Y"),
        ("one.png --focus 0.5,0.5 --bokeh 5 --animate gif -o new", "one picture does not move"),
        (
            "one.png depths/one.png --focus 0.5,0.5 --bokeh 5 -o new",
            "two photographs have this name",
        ),
        ("depths --focus 0.5,0.5 --bokeh 5 --depth nowhere.png -o new", "cannot be read"),
        ("one.png --focus 0,0.5 --f-number 2 --depth ramp.png -o new.png", "the farthest point"),
    ],
)
def test_mistakes_are_one_sentence(folder, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert lens(*(f"{word}" for word in words.split())) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert reason in errors[0]
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_no_blur_changes_no_pixel(folder):
    image = Image.open(folder / "one.png")
    image.save(folder / "wide.png", icc_profile=rgb_profile())
    words = ("--focus", "0.5,0.5", "--bokeh", 0, "--depth", "plane", "-o", folder / "out.png")
    assert lens(folder / "wide.png", *words) == 0
    assert np.array_equal(values(folder / "out.png"), values(folder / "wide.png"))
    assert Image.open(folder / "out.png").info["icc_profile"] == rgb_profile()


def test_a_photograph_without_exif_says_what_is_missing(folder, capsys):
    Image.new("RGB", (32, 32)).save(folder / "plain.png")
    words = ("--focus", "0.5,0.9", "--f-number", 2, "--depth", "plane", "-o", folder / "out.png")
    assert lens(folder / "plain.png", *words) == 2
    assert "--focal-length: the photograph's EXIF has none" in capsys.readouterr().err
    assert lens(folder / "plain.png", *words, "--focal-length", 85) == 0


def test_light_averages_in_the_photograph_s_own_color_space():
    """Half white, half black in linear light is 188 in sRGB's curve, 0.5^(1/4) with --gamma 4."""
    photo = Photo(torch.tensor([0.0, 1.0]).expand(3, 1, 2))
    mean = photo.to_linear().mean(-1, keepdim=True)
    assert float(255 * photo.with_light(mean).image[0]) == pytest.approx(187.5, abs=0.1)
    mean = photo.to_linear(4.0).mean(-1, keepdim=True)
    assert float(photo.with_light(mean, 4.0).image[0]) == pytest.approx(0.5**0.25, abs=1e-5)


@pytest.mark.slow
def test_bokehme_s_own_rendering_through_the_whole_command(tmp_path):
    """BokehMe's renderer reads the map's high byte alone."""
    photograph = shared_data() / "bokehme"
    high_byte = np.asarray(Image.open(photograph / "21_disparity.png")).astype(np.int64) // 256
    Image.fromarray(high_byte.astype(np.uint8)).save(tmp_path / "depth.png")
    words = ("--depth", tmp_path / "depth.png", "--depth-edges", "keep")
    words += ("--method", "layered", "--gamma", 4)
    level = 60 * 512 / 1350  # K = 60 px where the long side has 1350
    words += ("--focus-disparity", 90 / 255, "--bokeh", level, "-o", tmp_path / "out.png")
    assert lens(photograph / "21_image.jpg", *words) == 0
    golden = values(photograph / "21_classical_K60_focus90of255_gamma4.jpg")
    mse = ((values(tmp_path / "out.png") - golden) ** 2).mean()
    assert 10 * math.log10(255**2 / mse) >= 46
