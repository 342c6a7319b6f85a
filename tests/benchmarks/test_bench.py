"""`python -m dofsuite.bench`: one JSON line a measurement, mistakes in one sentence."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from dofsuite.backbones import SmallDepth, SmallFlux, SmallSaliency, SmallSdxl
from dofsuite.bench import BENCHMARKS, main, module_of, parser_of
from dofsuite.benchmarks import config, lens, refocus, text2image
from dofsuite.cli import config_from
from dofsuite.optics import render_bokeh
from dofsuite.refocus.two_pass import SplitBackward
from dofsuite.text2image.networks import FocusPredictorConfig

ROOT = Path(__file__).parents[2]


def lines_of(capsys, *words):
    assert main(list(words)) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_lens_counts_every_method_and_radius(capsys):
    words = ["lens", "--px", "32", "--radii-px", "2", "9", "--methods", "layered", "gather"]
    lines = lines_of(capsys, *words)
    assert [(line["what"], line["setting"]["radius_px"]) for line in lines] == [
        ("lens layered", 2),
        ("lens layered", 9),
        ("lens gather", 2),
        ("lens gather", 9),
    ]
    assert all(line["counted"]["flop"] > 0 for line in lines)
    assert {"time_ms", "floor_ms", "ratio", "device", "torch", "date"} <= set(lines[0])


def test_a_time_stands_beside_a_floor_of_this_machine(capsys):
    words = ["lens", "--px", "32", "--radii-px", "2", "--methods", "layered", "--time-on-cpu"]
    line, *peers = lines_of(capsys, *words)
    assert [peer["what"] for peer in peers] == ["lens exact", "lens BokehMe's scatter"]
    assert line["ratio"] == pytest.approx(line["time_ms"] / line["floor_ms"], rel=1e-2)
    assert line["gemm_tflop_per_s"] > 0


def test_bokehme_s_scatter_has_the_exact_renderer_s_numbers():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 12, 9, generator=generator)
    radius_px = 4 * torch.randn(2, 1, 12, 9, generator=generator)
    expected = render_bokeh(image, radius_px, method="exact")
    assert torch.allclose(lens.bokehme_scatter(image, radius_px), expected, atol=1e-6)


def test_simulate_counts_the_shared_ffts(capsys):
    words = ["simulate", "--px", "64", "--planes", "3", "--levels", "2", "--layers", "5"]
    (line,) = lines_of(capsys, *words)
    assert line["setting"]["variants"] == 6


def test_data_reads_shards_beside_a_bare_tar(capsys):
    read, decode = lines_of(capsys, "data", "--shards", "synthetic:motorcycle", "--runs", "1")
    assert (read["what"], decode["what"]) == ("data read", "data decode")
    counted = read["counted"]
    assert counted["payload_bytes_per_sample"] <= counted["shard_bytes_per_sample"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nothing"], "nothing"),
        (["lens", "--methods", "magic"], "magic"),
        (["lens", "--px", "0"], "--px"),
        (["simulate", "--layers", "1"], "--layers"),
        (["data", "--shards", "nowhere"], "nowhere"),
        (["startup", "--runs", "0"], "--runs"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, words, named):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.splitlines()) == 1


def test_every_benchmark_has_options_and_is_named_in_the_help(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in BENCHMARKS:
        assert f"    {name} " in text
        assert module_of(name).Config()
    assert config.SplitBackward == SplitBackward
    assert set(config.FFT_DTYPES) == set(lens.FFT_DTYPES)


def test_every_stage_of_the_script_for_a_gpu_is_a_benchmark_and_its_options(tmp_path):
    environment = {**os.environ, "PYTHON": "echo", "ROWS": str(tmp_path / "rows")}
    script = ["bash", str(ROOT / "experiments" / "gpu_rows.sh")]
    subprocess.run(script, env=environment, check=True, capture_output=True)
    commands = [line.split() for line in (tmp_path / "rows").read_text().splitlines()]
    assert len(commands) == 9
    for module, verb, name, *options in commands:
        assert (module, verb) == ("-m", "dofsuite.bench")
        assert config_from(module_of(name).Config, parser_of(name).parse_args(options))
    wrong = subprocess.run([*script, "magic"], env=environment, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr == "gpu_rows.sh: magic is no stage; see words_of in it.\n"


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_the_timed_steps_of_both_works_run_on_small_networks(lora_rank):
    on_cpu = torch.device("cpu")
    flux = SmallFlux(weights=None, heads=2, single_blocks=1, downscale=2)
    step = refocus.training_step(refocus.Config(px=32, split_backward="rows"), on_cpu, flux)
    small = {
        "backbone": SmallSdxl(),
        "depth": SmallDepth(weights=None),
        "saliency": SmallSaliency(weights=None),
        "focus": FocusPredictorConfig(small=True),
    }
    steps = text2image.training_steps(
        text2image.Config(px=64, lora_rank=lora_rank), on_cpu, **small
    )
    assert set(steps) == {"deep generator", "deep critic", "shallow generator", "shallow critic"}
    for call in (step, *steps.values()):
        call()
