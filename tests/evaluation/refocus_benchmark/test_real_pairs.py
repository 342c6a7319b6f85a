"""A benchmark of real pairs: `data import` in, deblur, bokeh and refocus samples out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dofsuite.data.__main__ import main as data_main
from dofsuite.evaluate import main
from dofsuite.evaluation.refocus_benchmark.config import BenchmarkConfig
from dofsuite.evaluation.refocus_benchmark.format import read_benchmark
from dofsuite.evaluation.refocus_benchmark.real_pairs import fitted_camera, point_on_plane
from dofsuite.images import to_pil
from dofsuite.optics import display_to_linear, linear_to_display, render_bokeh

GAMMA = 2.2
PX = 32


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Squares of random colors, 32 px, over a disparity of three planes."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 16, 16, generator=generator)
    image = torch.nn.functional.interpolate(image, (PX, PX), mode="nearest")
    disparity = torch.zeros(1, 1, PX, PX)
    disparity[..., :, 11:22] = 0.4
    disparity[..., :, 22:] = 1
    return image, disparity


def photographed(plane: float, level: float, gain: float) -> torch.Tensor:
    """By `exact`, and darker."""
    image, disparity = scene()
    radius_px = level * (disparity - plane)
    light = render_bokeh(display_to_linear(image, GAMMA), radius_px, "exact")
    return gain * linear_to_display(light, GAMMA)


def config(**options: object) -> BenchmarkConfig:
    return BenchmarkConfig(folder=Path("x"), output=Path("y"), gamma=GAMMA, **options)


def test_fit_finds_the_camera_of_a_darker_photograph() -> None:
    plane, level = 0.4, 8.0
    image, disparity = scene()
    blurred = photographed(plane, level, 0.8)
    found = fitted_camera(image, disparity, blurred, config(reference_width_px=float(PX)))
    assert found == (pytest.approx(plane), level)
    x, y = point_on_plane(disparity, found[0])
    assert float(disparity[0, 0, int(y * PX), int(x * PX)]) == pytest.approx(plane)


def test_ebb_becomes_a_benchmark_that_run_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A pair in EBB!'s layout, and depth beside none
    sharp, blurred = scene()[0][0], photographed(0.4, 8.0, 0.9)[0]
    for folder, image in (("original", sharp), ("bokeh", blurred)):
        path = tmp_path / "EBB" / "Training" / folder / "4400.png"
        path.parent.mkdir(parents=True)
        to_pil(image).save(path)
    words = ("import", "ebb", str(tmp_path / "EBB"), "-o", str(tmp_path / "set"))
    assert data_main((*words, "--purpose", "evaluate")) == 0
    # Without depth: deblur only
    benchmark = tmp_path / "benchmark"
    build = ("build-benchmark", str(tmp_path / "set" / "pairs"), "-o", str(benchmark))
    assert main([*build, "--size", str(PX)]) == 0
    assert "deblur samples only" in capsys.readouterr().out
    (sample,) = read_benchmark(benchmark).samples
    assert (sample.task, sample.bokeh_level) == ("deblur", 0.0)
    stored = np.asarray(Image.open(benchmark / sample.reference))
    assert (stored == np.asarray(to_pil(blurred))).all()
    # Its table: the renderer's deblurring is the sharp photograph, copying is not
    scored = ["run", "--benchmark", str(benchmark), "-o", str(tmp_path / "report")]
    assert main([*scored, "--clip", "none", "--lpips", "none", "--clip-iqa", "none"]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    (table,) = (each for each in report["tables"] if each["title"].startswith("Table 2"))
    mae = {row["name"]: row["values"]["MAE"] for row in table["rows"]}
    assert mae["oracle"] == 0
    assert mae["copy"] > 0.02


@pytest.mark.slow  # fits two cameras
def test_scenes_with_depth_and_several_distances_give_all_tasks(tmp_path: Path) -> None:
    # What `data import` writes of BLB: exact depth, two focus distances
    folder = tmp_path / "pairs"
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    image, disparity = scene()
    depth = 1 / (0.2 + disparity[0, 0].numpy())
    np.save(folder / "depth" / "s.npy", depth)
    to_pil(image[0]).save(folder / "images" / "s.png")
    pairs = []
    for name, plane, distance in (("a", 0.4, 2.0), ("b", 1.0, 1.0)):
        to_pil(photographed(plane, 8.0, 1.0)[0]).save(folder / "images" / f"{name}.png")
        camera = {"focus_distance": distance}
        files = {"sharp": "images/s.png", "blurred": f"images/{name}.png", "depth": "depth/s.npy"}
        pairs.append(
            {"name": name, "scene": "s", "sharp_camera": {}, "blurred_camera": camera} | files
        )
    record = {"format": 1, "data_set": "BLB", "licence": "x", "depth_kind": "depth", "pairs": pairs}
    (folder / "pairs.json").write_text(json.dumps(record | {"files": {}}))
    output = tmp_path / "benchmark"
    options = ["--size", str(PX), "--reference-width", str(PX), "--gamma", str(GAMMA)]
    assert main(["build-benchmark", str(folder), "-o", str(output), *options]) == 0
    samples = {sample.key: sample for sample in read_benchmark(output).samples}
    assert [sample.task for sample in samples.values()].count("refocus") == 2
    assert set(samples) == {
        *("s/deblur_a", "s/bokeh_a", "s/deblur_b", "s/bokeh_b"),
        *("s/refocus_to_a", "s/refocus_to_b"),
    }
    for name, plane in (("a", 0.4), ("b", 1.0)):
        assert samples[f"s/bokeh_{name}"].bokeh_level == 8
        assert samples[f"s/refocus_to_{name}"].focus_disparity == pytest.approx(plane, abs=1e-3)
