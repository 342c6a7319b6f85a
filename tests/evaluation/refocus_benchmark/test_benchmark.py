"""`build-benchmark`: ten samples a scene, true pictures as another renderer makes them, files that
are checked.
"""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DepthAnythingForDepthEstimation, DPTImageProcessorPil

from dofsuite.backbones import SmallDepth
from dofsuite.data.shards import write_shards
from dofsuite.errors import UserError
from dofsuite.evaluate import main
from dofsuite.evaluation.refocus_benchmark.format import read_benchmark
from dofsuite.evaluation.refocus_benchmark.sources import depth_model
from tests.evaluation.small_benchmark import SMALL, SOURCES, build, write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory):
    return build(scenes, tmp_path_factory.mktemp("benchmark"))


@pytest.fixture(scope="module")
def benchmark(folder):
    return read_benchmark(folder)


def pixels(path):
    return np.asarray(Image.open(path)).astype(np.float64) / 255


def test_every_scene_has_two_refocus_four_bokeh_and_four_deblur_samples(benchmark):
    assert [scene.source for scene in benchmark.scenes] == sorted(SOURCES)
    for scene in benchmark.scenes:
        samples = [sample for sample in benchmark.samples if sample.scene == scene.scene]
        assert [sample.task for sample in samples] == ["refocus"] * 2 + ["bokeh"] * 4 + [
            "deblur"
        ] * 4
        first, second, *rest = samples
        assert (first.reference, first.target) == (second.target, second.reference)
        assert first.focus_point != second.focus_point
        assert abs(first.focus_disparity - second.focus_disparity) >= 0.25
        assert [sample.bokeh_level for sample in samples] == [20, 10, 5, 10, 15, 20, 0, 0, 0, 0]
        for bokeh, deblur in zip(rest[:4], rest[4:], strict=True):
            assert bokeh.reference == deblur.target == scene.image
            assert bokeh.target == deblur.reference
            assert bokeh.focus_point == first.focus_point
            assert deblur.focus_point == (0.5, 0.5)


def test_the_focal_plane_is_the_disparity_under_the_point(benchmark, folder):
    for sample in benchmark.samples:
        disparity = np.asarray(Image.open(folder / f"disparity/{sample.scene}.png")) / 65535
        x, y = sample.focus_point
        assert disparity[int(y * 32), int(x * 32)] == pytest.approx(
            sample.focus_disparity, abs=1e-7
        )
        assert disparity.min() == 0
        assert disparity.max() == 1


def scattered(image, disparity, focus_disparity, level):
    """BokehMe's classical scatter in NumPy, tap by tap, in light at gamma 2.2."""
    radius = np.abs(level * (disparity - focus_disparity)) * 32 / 256
    light, side, reach = image**2.2, 32, int(radius.max()) + 1
    total, weights = np.zeros_like(light), np.zeros((side, side))
    for y in range(side):
        for x in range(side):
            r = radius[y, x]
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    if (
                        max(abs(dy), abs(dx)) <= int(r) + 1
                        and 0 <= y + dy < side
                        and 0 <= x + dx < side
                    ):
                        w = (0.5 + 0.5 * np.tanh(4 * (r - np.hypot(dy, dx)))) / (r * r + 0.2)
                        total[y + dy, x + dx] += w * light[y, x]
                        weights[y + dy, x + dx] += w
    return (total / weights[..., None]) ** (1 / 2.2)


def test_true_pictures_are_what_bokehmes_scatter_makes_of_the_files(benchmark, folder):
    for sample in [benchmark.samples[0], benchmark.samples[5], benchmark.samples[11]]:
        image, target = (
            pixels(folder / f"images/{sample.scene}.png"),
            pixels(folder / sample.target),
        )
        disparity = np.asarray(Image.open(folder / f"disparity/{sample.scene}.png")) / 65535
        expected = scattered(image, disparity, sample.focus_disparity, sample.bokeh_level)
        assert np.abs(expected - target).mean() < 1.5e-3  # half a step of 8 bit is 1e-3
        assert np.abs(image - target).mean() > 1e-2


def test_the_manifest_lists_every_file_with_its_checksum(folder):
    manifest = json.loads((folder / "benchmark.json").read_text())
    listed = set(manifest["files"])
    assert listed == {
        str(path.relative_to(folder))
        for path in folder.rglob("*.*")
        if path.suffix in (".png", ".csv") and path.name != "samples.csv"  # which rivals fill
    }
    assert len(listed) == 3 * (2 + 6) + 1
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
    settings = manifest["settings"]
    assert settings["bokeh_levels"] == [5, 10, 15, 20]
    assert settings["size_px"] == 32
    assert settings["rendering"] == {"gamma": 2.2, "layers": 21, "reference_width_px": 256}


def test_a_changed_file_or_manifest_is_refused(folder, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    read_benchmark(copied)
    manifest = (copied / "benchmark.json").read_text()
    (copied / "benchmark.json").write_text(manifest.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match=r"benchmark.json: checksum: the manifest was changed"):
        read_benchmark(copied)
    (copied / "benchmark.json").write_text(manifest)
    picture = next((copied / "images").iterdir())
    data = bytearray(picture.read_bytes())
    data[-20] ^= 1
    picture.write_bytes(data)
    with pytest.raises(UserError, match=f"{picture.name}: the file is not the one"):
        read_benchmark(copied)
    picture.unlink()
    with pytest.raises(UserError, match=f"{picture.name}: the file is missing"):
        read_benchmark(copied)


def test_what_is_no_manifest_or_lacks_a_part_is_one_sentence(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "copied")
    file = tmp_path / "copied" / "benchmark.json"
    manifest = json.loads(file.read_text())
    less = [
        {key: value for key, value in manifest.items() if key != part}
        for part in ("files", "scenes", "settings")
    ]
    renamed = manifest | {"scenes": [{"name": "a"}]}
    unsized = manifest | {
        "settings": {key: value for key, value in manifest["settings"].items() if key != "size_px"}
    }
    for content in ([], 3, *less, renamed, unsized):
        if isinstance(content, dict):  # its checksum is right
            whole = {key: value for key, value in content.items() if key != "checksum"}
            text = json.dumps(whole, sort_keys=True).encode()
            content = whole | {"checksum": hashlib.sha256(text).hexdigest()}
        file.write_text(json.dumps(content))
        assert (
            main(["run", "--benchmark", str(tmp_path / "copied"), "-o", str(tmp_path / "out")]) == 2
        )
        said = capsys.readouterr().err.strip()
        assert said.startswith(f"{file}: it ")
        assert "\n" not in said


def test_one_process_and_three_that_were_stopped_make_the_same_files(
    scenes, folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in (2, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        assert not (tmp_path / "shared" / "benchmark.json").exists()
        build(scenes, tmp_path / "shared")
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
    assert files == {
        path.relative_to(tmp_path / "shared"): path.read_bytes()
        for path in (tmp_path / "shared").rglob("*.*")
    }


def test_points_of_a_person_are_taken_and_kept(scenes, folder, tmp_path):
    with open(folder / "points.csv") as file:
        lines = [line | {"x3": "0.25", "y3": "0.75"} for line in csv.DictReader(file)]
    with open(tmp_path / "mine.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    mine = read_benchmark(build(scenes, tmp_path / "mine", "--points", str(tmp_path / "mine.csv")))
    assert mine.settings["points"] == "by a person"
    seeded = read_benchmark(folder)
    for one, other in zip(mine.samples, seeded.samples, strict=True):
        assert one.focus_point == ((0.25, 0.75) if one.task == "bokeh" else other.focus_point)


def test_depth_in_metres_and_another_folder_of_maps_give_the_same_benchmark(
    scenes, folder, tmp_path
):
    for path in scenes.rglob("*.depth.png"):
        place = tmp_path / "pictures" / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (tmp_path / "maps").mkdir(exist_ok=True)
        name = path.name.replace(".depth.png", "")
        shutil.copy(path.with_name(f"{name}.png"), place)
        disparity = np.asarray(Image.open(path)) / 65535
        np.save(tmp_path / "maps" / f"{name}.npy", (1 / (0.1 + disparity)).astype(np.float32))
    words = ["--depth-maps", str(tmp_path / "maps"), "--depth-kind", "depth"]
    build(tmp_path / "pictures", tmp_path / "metres", *words)
    for path in (folder / "disparity").iterdir():
        one, other = (
            np.asarray(Image.open(f / "disparity" / path.name)).astype(int)
            for f in (folder, tmp_path / "metres")
        )
        assert np.abs(one - other).max() <= 1


def test_a_depth_model_gives_the_depth(scenes, tmp_path):
    built = read_benchmark(
        build(scenes, tmp_path / "made", "--depth-model", "SmallDepth", "--size", "64")
    )
    assert built.settings["depth"] == "SmallDepth"
    assert built.disparity(built.scenes[0].scene).shape == (1, 1, 64, 64)


def save_depth_anything(folder, kind):
    """The small depth model's weights as a Depth Anything of another kind, saved as transformers
    saves one.
    """
    small = SmallDepth().load().network
    small.config.depth_estimation_type = kind
    network = DepthAnythingForDepthEstimation(small.config).eval()
    network.load_state_dict(small.state_dict())
    torch.nn.init.constant_(
        network.head.conv3.bias, 10.0
    )  # a relative one's last ReLU then cuts nothing off
    network.save_pretrained(folder)
    return network


def test_a_relative_model_s_answer_is_the_disparity_itself(scenes, tmp_path, capsys):
    """Against transformers' own network and image processor, and NumPy: stretched, and near where
    it is large.
    """
    network = save_depth_anything(tmp_path / "relative", "relative")
    model = f"RelativeDepth={tmp_path / 'relative'}"
    built = read_benchmark(
        build(scenes, tmp_path / "made", "--depth-model", model, "--size", "64", "--count", "1")
    )
    processor = DPTImageProcessorPil(
        size={"height": 518, "width": 518}, keep_aspect_ratio=True, ensure_multiple_of=8,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    for scene in built.scenes:
        picture = Image.open(tmp_path / "made" / scene.image)
        with torch.no_grad():
            output = network(**processor(picture, return_tensors="pt")).predicted_depth[None]
        theirs = torch.nn.functional.interpolate(output, (64, 64), mode="bilinear", antialias=True)[
            0, 0
        ].numpy()
        ours = np.asarray(Image.open(tmp_path / "made" / scene.disparity)) / 65535
        assert theirs.std() > 0.01
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    save_depth_anything(tmp_path / "metric", "metric")
    for name, kind, said in (
        ("RelativeDepth", "metric", "meters"),
        ("DepthAnything", "relative", "no metric depth"),
    ):
        words = ["--depth-model", f"{name}={tmp_path / kind}"]
        assert (
            main(["build-benchmark", str(scenes), "-o", str(tmp_path / "no"), *SMALL, *words]) == 2
        )
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--depth-model"], ["--depth", "auto"]])
def test_a_depth_model_without_a_name_is_that_of_photographs(
    scenes, tmp_path, monkeypatch, capsys, words
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["build-benchmark", str(scenes), "-o", str(tmp_path), *SMALL, *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("--depth auto: depth-anything/Depth-Anything-V2-Small-hf: ")


def test_a_depth_model_runs_on_the_process_s_gpu(scenes, tmp_path, monkeypatch):
    devices = []
    to = torch.nn.Module.to
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, device: devices.append(device) or to(self, "meta")
    )
    depth_model("SmallDepth")
    assert devices == [torch.device("cuda", 3)]


def test_synthetic_scenes_are_a_benchmark_with_true_disparity(
    scenes, folder, tmp_path, monkeypatch, capsys
):
    """The same as from a folder into which the same scenes were copied by hand."""
    built = build("synthetic:val", tmp_path / "made", "--count", "3")
    for one in read_benchmark(folder).scenes:
        for name in (one.image, one.disparity, f"rendered/{one.scene}/bokeh_10.png"):
            assert (built / name).read_bytes() == (folder / name).read_bytes()
    assert read_benchmark(built).samples == read_benchmark(folder).samples
    tagged = read_benchmark(
        build("synthetic:val", tmp_path / "tagged", "--count", "1", "--source", "camera")
    )
    assert [scene.source for scene in tagged.scenes] == ["camera"]
    members = {"png": b"", "depth.npy": b"", "json": b"{}"}
    kind = {
        "source": "motorcycle",
        "licence": "none",
        "split": "test",
        "depth_kind": "depth",
        "depth_unit": "m",
    }
    write_shards(tmp_path / "embedded-1" / "motorcycle", [("motorcycle", members)], **kind)
    monkeypatch.setenv("DOFSUITE_CACHE", str(tmp_path))
    for words, said in (
        (["synthetic:motorcycle"], "this set has no disparity"),
        (["synthetic:nothing"], "there is no such synthetic set"),
        (["synthetic:val", "--depth-maps", "."], "it brings its disparity"),
        (["synthetic:val", "--depth-kind", "depth"], "it brings its disparity"),
    ):
        assert main(["build-benchmark", *words, "-o", str(tmp_path / "no"), *SMALL]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_pictures_outside_the_three_folders_need_a_tag(scenes, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (scenes / "phone").iterdir():
        shutil.copy(path, flat)
    assert main(["build-benchmark", str(flat), "-o", str(tmp_path / "b"), *SMALL]) == 2
    assert "it has no source tag" in capsys.readouterr().err
    built = read_benchmark(build(flat, tmp_path / "b", "--source", "phone"))
    assert [scene.source for scene in built.scenes] == ["phone"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--levels", "5"], "--levels"),
        (["--levels", "10,5"], "--levels"),
        (["--levels", "0,5"], "--levels"),
        (["--levels", "a"], "--levels"),
        (["--refocus-levels", "5,10,15"], "--refocus-levels"),
        (["--gamma", "0"], "--gamma"),
        (["--gamma", "nan"], "--gamma nan: it must be a finite number above 0"),
        (["--gamma", "inf"], "--gamma inf"),
        (["--reference-width", "nan"], "--reference-width nan"),
        (["--count", "0"], "--count: 0 is no number of images"),
        (["--plane-gap", "2"], "--plane-gap"),
        (["--size", "4"], "--size"),
        (["--size", "1000"], "--size 1000"),
        (["--depth-maps", "."], "has no depth map"),
        (["--depth-model", "Guess"], "'Guess' is none of"),
        (["--depth-model", "SmallDepth", "--depth-maps", "."], "leave out one of the two"),
        (["--points", "none.csv"], "none.csv"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_benchmark(scenes, tmp_path, capsys, words, said):
    assert main(["build-benchmark", str(scenes), "-o", str(tmp_path / "b"), *SMALL, *words]) == 2
    text = capsys.readouterr().err.strip()
    assert said in text
    assert "\n" not in text
    assert not (tmp_path / "b" / "benchmark.json").exists()


def test_other_settings_or_pictures_in_a_begun_folder_are_refused(scenes, folder, tmp_path, capsys):
    assert main(["build-benchmark", str(scenes), "-o", str(folder), *SMALL, "--seed", "1"]) == 2
    assert "seed: these rows were computed with 0, not 1" in capsys.readouterr().err
    changed = tmp_path / "changed"
    shutil.copytree(scenes, changed)
    picture = next((changed / "ai").glob("val??????.png"))
    Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(picture)
    assert main(["build-benchmark", str(changed), "-o", str(folder), *SMALL]) == 2
    assert "originals_sha256" in capsys.readouterr().err
