"""The refocus work through `fit`: stopped at a random step and resumed it ends in the same weights, bit for bit."""

import copy
import random
from pathlib import Path

import pytest
import torch
import yaml

from dofsuite.fit import main
from dofsuite.refocus import RefocusPipeline
from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.resume import checkpoints_of
from tests.refocus.tiny import EXPERIMENT

STEPS = 5


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(yaml.safe_dump(copy.deepcopy(EXPERIMENT)))


def fit(folder, steps, *more):
    return main(["x.yaml", "--trainer.default_root_dir", folder, "--trainer.max_steps", str(steps), *more])


def last_state(folder):
    return AtomicCheckpointIO().load_checkpoint(checkpoints_of(Path(folder))[0])


def test_a_stopped_run_resumes_to_the_same_weights_and_its_adapter_reloads(capsys):
    stop = random.SystemRandom().randint(1, STEPS - 1)
    assert fit("whole", STEPS) == 0
    assert fit("stopped", stop) == 0
    assert fit("stopped", STEPS) == 0
    whole, stopped = last_state("whole"), last_state("stopped")
    torch.testing.assert_close(stopped["state_dict"], whole["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(stopped["optimizer_states"], whole["optimizer_states"], rtol=0, atol=0)
    assert all("lora_" in name or name.startswith("camera.") for name in whole["state_dict"])
    for name in ("metrics.json", "config.yaml", "command.txt", "versions.json", "export/refocus.json"):
        assert (Path("stopped") / name).is_file()
    said = capsys.readouterr().out
    assert all(f"{word}" in said for word in ("sheet", "metrics", "export"))
    camera = RefocusPipeline.from_export("stopped").camera.state_dict()
    assert torch.equal(camera["projector.weight"], whole["state_dict"]["camera.projector.weight"])
    assert RefocusPipeline.from_export("stopped").config.size_px == 32


def test_another_rank_of_the_adapter_is_another_run(capsys):
    assert fit("run", 1) == 0
    assert fit("run", 2, "--model.init_args.lora.rank", "8") == 2
    said = capsys.readouterr().err
    assert "lora.rank" in said
    assert "--trainer.default_root_dir" in said
