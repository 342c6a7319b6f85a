"""`python -m dofsuite.simulate`: every variant of the grid, whole or not at all, near `exact`."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dofsuite.data.__main__ import main as data_main
from dofsuite.images import read_image, to_uint8
from dofsuite.optics import (
    bokeh_radius_px,
    display_to_linear,
    linear_to_display,
    render_bokeh,
)
from dofsuite.simulate import main
from dofsuite.simulation.config import SimulateConfig
from dofsuite.simulation.plan import EDGES_PX, radius_histogram
from dofsuite.simulation.scenes import find_scenes
from dofsuite.simulation.variants import Variant, rendered, variants_of
from tests.real_layouts import vae

# A level is a px of radius here: the image is as wide as the reference.
SIZE = ("--size", "48", "--reference-width", "48", "--depth-kind", "disparity")
GAMMA = 4.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photograph of scikit-image with a disparity of two planes and a ramp."""
    skimage_data = pytest.importorskip("skimage.data")
    path = tmp_path / "photos"
    path.mkdir()
    photograph = Image.fromarray(skimage_data.astronaut()).resize((64, 48), Image.Resampling.BOX)
    photograph.save(path / "a b.png")
    disparity = np.tile(np.linspace(0, 40000, 64), (48, 1))
    disparity[10:30, 20:44] = 65535
    Image.fromarray(disparity.astype(np.uint16)).save(path / "a b_depth.png")
    return path


def add_image(folder: Path, name: str) -> None:
    for ending in (".png", "_depth.png"):
        shutil.copy(folder / f"a b{ending}", folder / f"{name}{ending}")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_the_command_writes_all_421_variants(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    small = ("--size", "24", "--reference-width", "24", "--depth-kind", "disparity")
    words = (str(folder), "-o", str(output), *small, "--format", "png", "--layers", "21")
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "1 images x 421 variants (21 focal planes x 20 bokeh levels" in printed
    assert "0 to 0.5 px" in printed
    assert "GB are free" in printed
    # Every file of the record is there and no other
    record = json.loads((output / "a-b" / "variants.json").read_text())
    files = {variant["file"] for variant in record["variants"]}
    assert len(record["variants"]) == len(files) == 421
    found = {path.name for path in (output / "a-b").iterdir()}
    assert found == files | {"variants.json", "disparity.png"}
    cameras = {(each["focus_disparity"], each["bokeh_level"]) for each in record["variants"]}
    grid = {(round(0.05 * step, 2), float(level)) for step in range(21) for level in range(1, 21)}
    assert cameras == grid | {(0.0, 0.0)}
    # Level 0 is the image; a plane that is in focus stays sharp and the other does not
    sharp, far, near = (
        read_image(output / "a-b" / f"{name}.png")
        for name in ("all_in_focus", "focus_0_bokeh_20", "focus_1_bokeh_20")
    )
    whole = read_image(folder / "a b.png")[None]
    small_image = torch.nn.functional.interpolate(whole, (24, 32), mode="bicubic", antialias=True)
    assert (sharp - small_image[0, :, :, 4:28].clamp(0, 1)).abs().max() < 0.003
    # The left edge is far, the middle near
    left, middle = np.s_[:, :4, :3], np.s_[:, 8:13, 8:15]
    assert (far[left] - sharp[left]).abs().mean() < (near[left] - sharp[left]).abs().mean() / 2
    assert (near[middle] - sharp[middle]).abs().mean() < (far - sharp)[middle].abs().mean()


def test_variants_are_those_of_exact_to_the_bar(folder: Path, tmp_path: Path) -> None:
    config = SimulateConfig(
        source=folder,
        output=tmp_path / "out",
        size_px=48,
        reference_width_px=48.0,
        depth_kind="disparity",
    )
    image, disparity = find_scenes(config)[0].read()
    cameras = [Variant(0.0, 20.0), Variant(1.0, 8.0)]
    for camera, picture in zip(
        cameras, rendered(image, disparity, cameras, config, torch.device("cpu")), strict=True
    ):
        radius_px = bokeh_radius_px(disparity, camera.focus_disparity, camera.bokeh_level, 48, 48)
        light = render_bokeh(display_to_linear(image.double(), GAMMA), radius_px, "exact")
        error = picture.double() - linear_to_display(light, GAMMA).clamp(0, 1)[0]
        assert -10 * float(error.square().mean().log10()) >= 58.9


def test_restart_writes_only_what_is_missing_and_nothing_in_part(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, few = tmp_path / "out", ("--planes", "0,1", "--levels", "4,20")
    words = (str(folder), "-o", str(output), *SIZE, *few)
    add_image(folder, "b")
    whole = (folder / "b.png").read_bytes()
    # The second image's depth has another size: the first is complete, the second is not there
    Image.new("L", (9, 9)).save(folder / "b_depth.png")
    assert "the depth map is 9x9 px" in refused(capsys, *words, "--dry-run")
    assert not output.exists()
    shutil.copy(folder / "a b_depth.png", folder / "b_depth.png")
    assert main((*words, "--count", "1")) == 0
    written = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert len(written) == 2 + 7
    assert main(words) == 0
    assert "1 images are there already" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in written.items() if path.is_file())
    assert len(list((output / "b").iterdir())) == 7
    assert main(words) == 0
    assert "all 2 images are there" in capsys.readouterr().out
    # Other settings are not mixed with these, and a file of the user's is not replaced
    assert "file_format" in refused(capsys, *words, "--format", "png")
    (folder / "c.png").write_bytes(whole)
    shutil.copy(folder / "a b_depth.png", folder / "c_depth.png")
    (output / "c").mkdir()
    (output / "c" / "mine.txt").write_text("kept")
    assert "move it away" in refused(capsys, *words)
    assert (output / "c" / "mine.txt").read_text() == "kept"


def test_a_disk_without_room_is_refused_before_anything_is_written(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000))
    words = (str(folder), "-o", str(tmp_path / "out"), *SIZE, "--planes", "0", "--levels", "4")
    assert "are needed and 0.0 GB are free" in refused(capsys, *words)
    assert not (tmp_path / "out").exists()


def test_radius_histogram_counts_pixels_as_a_loop_does(folder: Path, tmp_path: Path) -> None:
    config = SimulateConfig(
        source=folder,
        output=tmp_path,
        size_px=None,
        planes=(0.0, 0.3),
        levels=(3.0, 20.0),
        reference_width_px=64.0,
        depth_kind="disparity",
    )
    _, disparity = find_scenes(config)[0].read()
    radii = [
        level * abs(float(value) - plane)
        for plane in config.planes
        for level in config.levels
        for value in disparity.flatten()
    ]
    expected, _ = np.histogram(radii, bins=[*EDGES_PX[:-1], 1e9])
    found = radius_histogram(disparity, config).numpy()
    assert found.sum() == len(radii)
    # Disparities are binned to 1 / 512, a radius of at most .04 px
    assert np.abs(found - expected).max() <= 0.02 * len(radii)


def test_latents_are_the_vae_s_of_the_rendered_variants(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = vae(scaling_factor=0.5, shift_factor=0.1).eval()
    network.save_pretrained(tmp_path / "model" / "vae")
    output, few = tmp_path / "out", ("--planes", "0,1", "--levels", "4,20")
    latent = ("--format", "latents", "--vae", str(tmp_path / "model"))
    assert main((str(folder), "-o", str(output), *SIZE, *few, *latent)) == 0
    (file,) = output.rglob("latents.safetensors")
    stored = load_file(file)["latents"]
    assert stored.shape == (5, 4, 6, 6)
    image = read_image(folder / "a b.png")[None, :, :, 8:56]
    with torch.no_grad():
        mode = network.encode(image * 2 - 1).latent_dist.mode()
    assert torch.allclose(stored[0].float(), (mode[0] - 0.1) * 0.5, atol=0.01)


def test_shards_give_what_their_folder_gives(folder: Path, tmp_path: Path) -> None:
    shards, few = tmp_path / "shards", ("--planes", "0.5", "--levels", "20", "--format", "png")
    pack = ("pack", str(folder), "-o", str(shards), "--depth-kind", "disparity", "--licence", "CC0")
    assert data_main(pack) == 0
    for source, name in ((folder, "1"), (shards, "2")):
        size = SIZE if source == folder else SIZE[:4]
        assert main((str(source), "-o", str(tmp_path / name), *size, *few)) == 0
    (one,), (two,) = ((tmp_path / name).rglob("focus_0.5_bokeh_20.png") for name in ("1", "2"))
    assert one.read_bytes() == two.read_bytes()
    (record,) = (tmp_path / "2").rglob("variants.json")
    assert json.loads(record.read_text())["licence"] == "CC0"


def test_mistakes_are_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (str(folder), "-o", str(tmp_path / "out"))
    assert "--depth-kind" in refused(capsys, *words, "--size", "48")
    assert "smaller than --size" in refused(capsys, *words, "--depth-kind", "disparity")
    assert "--vae" in refused(capsys, *words, "--format", "latents")
    assert "--planes" in refused(capsys, *words, "--planes", "0,2")
    (folder / "a b_depth.png").unlink()
    assert "it has no depth map" in refused(capsys, *words, *SIZE)


def test_a_variant_s_stored_values_are_its_rendering_s(folder: Path, tmp_path: Path) -> None:
    config = SimulateConfig(
        source=folder,
        output=tmp_path / "out",
        size_px=48,
        planes=(0.5,),
        levels=(20.0,),
        reference_width_px=48.0,
        depth_kind="disparity",
    )
    words = (str(folder), "-o", str(tmp_path / "out"), *SIZE, "--format", "png")
    assert main((*words, "--planes", "0.5", "--levels", "20")) == 0
    scene = find_scenes(config)[0].read()
    *_, picture = rendered(*scene, variants_of(config), config, torch.device("cpu"))
    stored = to_uint8(read_image(tmp_path / "out" / "a-b" / "focus_0.5_bokeh_20.png"))
    assert torch.equal(stored, to_uint8(picture))
