"""A quantized base in training and at inference, from the experiment file to the picture."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn.parallel import DistributedDataParallel

from dofsuite.backbones.quantization import PACKAGES
from dofsuite.fit import main
from dofsuite.refocus import RefocusPipeline
from dofsuite.refocus.run import offload_blocks
from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoints_of
from tests.refocus.tiny import EXPERIMENT, tiny_module

OFFLOADED = ["--model.offload_blocks", "true"]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(yaml.safe_dump(copy.deepcopy(EXPERIMENT)))


def fit(folder, steps, *more):
    """Train, without validation, and return the last checkpoint."""
    words = ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
    assert main(["x.yaml", "--trainer.default_root_dir", folder, *words, *more]) == 0
    return AtomicCheckpointIO().load_checkpoint(checkpoints_of(Path(folder))[0])


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("quantization", "more"),
    [
        pytest.param("int8", [], id="int8"),
        pytest.param("int8", OFFLOADED, id="int8 on the host", marks=pytest.mark.slow),
        pytest.param("nf4", [], id="nf4", marks=pytest.mark.slow),
    ],
)
def test_a_run_on_a_quantized_base_resumes_to_the_same_weights(quantization, more):
    pytest.importorskip(PACKAGES[quantization])
    words = ["--model.quantize", quantization, "--trainer.precision", "bf16-mixed", *more]
    full = fit("uninterrupted", 3, *words)
    fit("stopped", 2, *words)
    stopped = fit("stopped", 3, *words)
    for name in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(stopped[name], full[name], rtol=0, atol=0)
    # Adapter and camera alone, in float32, all of them trained
    trained = full["state_dict"]
    assert all("lora_" in name or name.startswith("camera.") for name in trained)
    assert all(weight.dtype == torch.float32 for weight in trained.values())
    assert all(trained[name].abs().sum() > 0 for name in trained if "lora_B" in name)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--model.quantize", "int8", "--model.lora", "null"],
            "--model.quantize: quantize: weights that are trained cannot be stored so; set a lora.",
        ),
        (
            [*OFFLOADED, "--model.quantize", "nf4"],
            "offload_blocks: bitsandbytes keeps nf4 on the GPU; set quantize to int8.",
        ),
        (
            [*OFFLOADED, "--model.acceleration.compile", "blocks"],
            "offload_blocks: not with compiled blocks; leave out acceleration.compile.",
        ),
        (["--model.quantize", "int3"], "--model.quantize: expected one of "),
    ],
)
def test_what_does_not_go_together_is_one_sentence(words, sentence, capsys):
    assert main(["x.yaml", *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_ddp_takes_a_quantized_base(quantization, tmp_path):
    """It sends what a module holds to all ranks, also where there is one; torchao's it cannot."""
    pytest.importorskip(PACKAGES[quantization])
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        module = tiny_module(quantize=quantization)
        reduced = DistributedDataParallel(module)
        trained = [name for name, p in module.named_parameters() if p.requires_grad]
        assert not set(trained) & reduced.parameters_to_ignore
    finally:
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    module = tiny_module()
    module.trained_size_px = 32
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    folder = tmp_path_factory.mktemp("run")
    module.export(folder / "export")
    return folder


def refocused(pipe):
    seed = torch.Generator().manual_seed(0)
    photo = torch.rand(1, 3, 32, 32, generator=seed)
    return pipe(photo, (0.3, 0.6), 8.0, generator=seed, output_type="pt").images


@pytest.mark.parametrize("quantization", ["int8", "fp8"])
def test_an_export_runs_on_a_quantized_base(export, quantization, tmp_path):
    pytest.importorskip("torchao")
    exact = refocused(RefocusPipeline.from_export(export))
    pipe = RefocusPipeline.from_export(export, quantize=quantization)
    error = float((refocused(pipe) - exact).abs().max())
    print(f"{quantization}: pictures differ by {error:.1e}")
    assert 0 < error < 0.02
    with pytest.raises(TypeError, match="the base is quantized"):
        pipe.save_pretrained(tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_offloaded_blocks_make_the_same_picture(export, quantization):
    """By diffusers' group offload, from the CPU to the CPU: its hooks, without a second device."""
    if quantization == "int8":
        pytest.importorskip("torchao")
    pipe = RefocusPipeline.from_export(export, quantize=quantization)
    expected = refocused(pipe)
    offload_blocks(pipe, torch.device("cpu"))
    assert torch.equal(refocused(pipe), expected)
