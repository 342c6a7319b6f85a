"""`fit --check`: what a run needs, before it is queued."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from dofsuite.backbones import PretrainedFlux, PretrainedKlein
from dofsuite.backbones.architectures import (
    KLEIN_4B,
    RandomDepth,
    RandomFlux,
    RandomKlein,
    RandomSaliency,
    RandomSdxl,
)
from dofsuite.experiment.cards import (
    CARDS,
    GIB,
    MEASURED_OVER_COUNTED,
    MEMORY_GIB_OF_GB,
    SPARE_GIB,
    sizes_that_hold,
)
from dofsuite.experiment.check import first_step
from dofsuite.experiment.command import read_command
from dofsuite.experiment.downloads import licence_lines
from dofsuite.experiment.experiment import read_experiment
from dofsuite.experiment.step_costs import step_costs
from dofsuite.fit import main
from dofsuite.refocus import Refocus
from dofsuite.refocus.footprint import step_footprint as refocus_footprint
from dofsuite.text2image import Stages, Text2Image
from dofsuite.text2image.dmd2.training_options import Training
from dofsuite.text2image.footprint import step_footprint as text2image_footprint
from dofsuite.text2image.footprint import step_kinds
from tests.refocus.tiny import EXPERIMENT

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SOURCES = ["--data.train", '{"photo": "synthetic:photo"}', "--data.val", "synthetic:val"]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return "x.yaml"


def test_a_run_that_fits_is_told_what_it_needs_and_nothing_is_written(tiny, capsys):
    assert main([tiny, "--gpu", "A100", "--check"]) == 0
    said = capsys.readouterr().out
    for line in (
        "x.yaml: the configuration is complete",
        "data.train.photo: synthetic:photo, which dofsuite makes itself",
        "of 76.1 GiB of A100 (3 GiB spare): fits",
        "memory: fits cards of 16, 24, 48 and 80 GB (3 GiB spare)",
        "disk: a checkpoint has",
        "time: 0 h on 1 x A100",
    ):
        assert line in said
    assert [path.name for path in Path().iterdir()] == ["x.yaml"]


def test_a_start_says_what_the_base_s_licence_means_for_what_is_trained():
    (dev,), (klein,) = (licence_lines(Refocus(b)) for b in (PretrainedFlux(), PretrainedKlein()))
    assert dev.startswith("base: black-forest-labs/FLUX.1-dev: FLUX.1 [dev] Non-Commercial License")
    assert klein.startswith("base: black-forest-labs/FLUX.2-klein-base-4B: Apache-2.0: what is")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data.val", "elsewhere"], "data.val: elsewhere: there is no such folder of shards"),
        (
            ["--data.size_px", "4096", "--data.batch_size", "64"],
            "memory: .* GiB do not fit A100-40",
        ),
        (["--gpu", "H300"], "--gpu: "),
    ],
)
def test_what_would_stop_the_run_is_one_sentence_and_exit_code_2(tiny, words, sentence, capsys):
    assert main([tiny, "--gpu", "A100-40", *words, "--check"]) == 2
    said = capsys.readouterr().err
    assert re.search(sentence, said)
    assert said.count("\n") == 1


def test_a_disk_that_is_too_small_is_named(tiny, monkeypatch, capsys):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    assert main([tiny, "--check"]) == 2
    assert "do not fit on its disk" in capsys.readouterr().err


def largest_gib(name: str, *words: str) -> tuple[float, str]:
    command = read_command([str(EXPERIMENTS / name), *SOURCES, *words])
    experiment = read_experiment(command)
    model = experiment.cli.parser.instantiate(experiment.cli.config)["model"]
    costs = step_costs(model, experiment.config)
    peak_bytes = max(step.peak_bytes for step in costs.steps)
    print(name, *(f"{step.name}: {step.peak_bytes / GIB:.1f} GiB" for step in costs.steps))
    return peak_bytes / GIB * MEASURED_OVER_COUNTED, experiment.config["gpu"]


FULL_SIZE = [
    "refocus_flux_512.yaml",
    "refocus_flux_512_h200.yaml",
    "refocus_flux_1024.yaml",
    "refocus_flux_1024_h200.yaml",
    "refocus_klein_512.yaml",
    "refocus_klein_1024.yaml",
    "text2image_deep.yaml",
    "text2image_deep_h200.yaml",
    "text2image_full.yaml",
    "text2image_full_h200.yaml",
    "text2image_exif.yaml",
    "dmd2_sdxl.yaml",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "measured_gib"), [("shallow generator", 104.0), ("deep critic", 84.6)]
)
def test_the_estimate_of_text2image_is_within_a_tenth_of_an_h200_s(kind, measured_gib):
    """Measured 2026-11-28 at commit fcb67ae, which had no working copies."""
    module = Text2Image(
        RandomSdxl(),
        RandomDepth("small"),
        RandomSaliency(),
        stages=Stages(deep=0),
        teacher_dtype="bfloat16",
        training=Training(working_copies=False),
    )
    counted = text2image_footprint(module, step_kinds(module)[kind], 1, 1024)
    estimate_gib = counted.peak_bytes / GIB * MEASURED_OVER_COUNTED
    print(f"{kind}: {estimate_gib:.1f} GiB, measured {measured_gib}")
    assert estimate_gib == pytest.approx(measured_gib, rel=0.1)


@pytest.mark.slow
def test_the_estimate_of_refocus_is_within_a_tenth_of_an_h200_s(monkeypatch):
    """Measured at the same commit, whose linears did not share their inputs."""
    monkeypatch.setattr(
        "dofsuite.backbones.flux.family.Flux1.share_low_precision_inputs", lambda *_: None
    )
    counted = refocus_footprint(Refocus(backbone=RandomFlux()), 1, 512, True)
    estimate_gib = counted.peak_bytes / GIB * MEASURED_OVER_COUNTED
    print(f"{estimate_gib:.1f} GiB, measured 92.7")
    assert estimate_gib == pytest.approx(92.7, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_full_size_file_fits_the_gpu_that_it_names(name):
    peak_gib, gpu = largest_gib(name)
    assert peak_gib <= CARDS[gpu].memory_gib - SPARE_GIB


@pytest.mark.parametrize(
    ("peak_gib", "sentence"),
    [
        (12.6, "fits cards of 16, 24, 48 and 80 GB"),
        (12.7, "fits cards of 24, 48 and 80 GB, not of 16"),
        (41.4, "fits cards of 80 GB, not of 16, 24 or 48"),
        (76, "fits no card of 16, 24, 48 or 80 GB"),
    ],
)
def test_the_cards_that_hold_a_step_are_named_by_their_size(peak_gib, sentence):
    assert sizes_that_hold(peak_gib) == sentence


# What remains on a card of 24 GB and one of 16, with 3 GiB spare
OF_24, OF_16 = (MEMORY_GIB_OF_GB[gb] - SPARE_GIB for gb in (24, 16))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "usable_gib"),
    [
        ("refocus_klein_512.yaml", [], OF_24),
        ("refocus_klein_512.yaml", ["--model.quantize", "int8"], OF_16),
        ("refocus_klein_512.yaml", ["--model.quantize", "nf4"], OF_16),
        (
            "refocus_flux_512.yaml",
            ["--model.quantize", "int8", "--model.gradient_checkpointing", "true"],
            OF_24,
        ),
    ],
)
def test_a_micro_batch_of_one_fits_the_cards_that_people_have(name, words, usable_gib):
    peak_gib, _ = largest_gib(name, *words)
    assert peak_gib <= usable_gib


def test_a_quantized_step_is_smaller_by_the_bits_of_its_blocks():
    """FLUX.2 klein's blocks, two of each kind and narrow: 16, 8 and 4 bits of their linears."""
    few = {"num_layers": 2, "num_single_layers": 2, "num_attention_heads": 8}
    klein = RandomKlein({**KLEIN_4B, **few})
    weights = {}
    for quantization in ("none", "int8", "nf4"):
        module = Refocus(backbone=klein, quantize=quantization, gradient_checkpointing=True)
        weights[quantization] = refocus_footprint(module, 1, 64, True).at_peak["weights"]
    with torch.device("meta"):
        blocks = [m for m in klein.load().transformer.children() if isinstance(m, nn.ModuleList)]
    linears = [m for each in blocks for m in each.modules() if isinstance(m, nn.Linear)]
    bits_16 = 2 * sum(linear.weight.numel() for linear in linears)
    saved = [weights["none"] - weights[each] for each in ("int8", "nf4")]
    assert saved == [pytest.approx(bits_16 * share, rel=0.05) for share in (1 / 2, 3 / 4)]


@pytest.mark.parametrize(("finished", "expected"), [(None, 3600), (3000, 3000)])
def test_a_run_that_continues_another_is_charged_its_own_steps(
    tmp_path, monkeypatch, finished, expected
):
    monkeypatch.chdir(tmp_path)
    if finished is not None:
        Path("runs/refocus_flux_512").mkdir(parents=True)
        Path("runs/refocus_flux_512/finished.json").write_text(f'{{"step": {finished}}}')
    command = read_command([str(EXPERIMENTS / "refocus_flux_1024.yaml")])
    assert first_step(read_experiment(command)) == expected
