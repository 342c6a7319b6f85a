"""AdamW in 8 bits, named in an experiment: it trains, resumes, and is the only one allowed."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

from dofsuite.experiment.optimizers import EIGHT_BIT
from dofsuite.fit import main
from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoints_of
from tests.refocus.tiny import EXPERIMENT


@pytest.fixture(autouse=True)
def _tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = copy.deepcopy(EXPERIMENT)
    # Of 4096 values on, moments are in 8 bits
    experiment["model"]["init_args"]["lora"] = {"rank": 64}
    Path("x.yaml").write_text(yaml.safe_dump(experiment))


def fit(folder, steps, *more):
    words = ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
    # torchao compiles its step: eager here
    with torch.compiler.set_stance("force_eager"):
        assert main(["x.yaml", "--trainer.default_root_dir", folder, *words, *more]) == 0
    return AtomicCheckpointIO().load_checkpoint(checkpoints_of(Path(folder))[0])


@pytest.mark.parametrize("path", [EIGHT_BIT[0], EIGHT_BIT[2]])
def test_a_run_with_moments_in_8_bits_resumes_to_the_same_weights(path):
    pytest.importorskip(path.partition(".")[0])
    words = ["--model.optimizer", path, "--model.optimizer.lr", "1e-3"]
    full = fit("uninterrupted", 3, *words)["state_dict"]
    fit("stopped", 2, *words)
    stopped = fit("stopped", 3, *words)["state_dict"]
    torch.testing.assert_close(stopped, full, rtol=0, atol=0)
    # AdamW's checkpoint has 12 bytes a weight; here a moment has one, and its share of a scale
    size = checkpoints_of(Path("stopped"))[0].stat().st_size
    assert size < 0.7 * 12 * sum(weight.numel() for weight in full.values())


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["--model.optimizer", EIGHT_BIT[0]], "command line: --model.optimizer"),
        ([f"--model.optimizer={EIGHT_BIT[2]}"], "command line: --model.optimizer"),
        ([], "x.yaml: model.init_args.optimizer.class_path"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(words, where, monkeypatch, capsys):
    experiment = yaml.safe_load(Path("x.yaml").read_text())
    experiment["model"]["init_args"]["optimizer"] = {"class_path": EIGHT_BIT[0]}
    Path("x.yaml").write_text(yaml.safe_dump(experiment if not words else EXPERIMENT))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["x.yaml", *words, "--print_config"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{where}: ")
    assert "pip install 'dofsuite[quantize]'." in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "path", ["torchao.optim.CPUOffloadOptimizer", "bitsandbytes.optim.SGD", "torchao.quantize_"]
)
def test_nothing_else_of_these_packages_may_be_named(path, capsys):
    pytest.importorskip(path.partition(".")[0])
    assert main(["x.yaml", "--model.optimizer", path, "--print_config"]) == 2
    assert f"{path} may not be imported" in capsys.readouterr().err
