"""The refocus work through `fit`: stopped at a random step and resumed it ends in the same weights,
bit for bit.
"""

import copy
import random
from pathlib import Path

import pytest
import torch
import yaml

from dofsuite.fit import main
from dofsuite.refocus import RefocusPipeline
from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import checkpoints_of
from tests.refocus.tiny import EXPERIMENT

STEPS = 5


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(yaml.safe_dump(copy.deepcopy(EXPERIMENT)))


def fit(folder, steps, *more):
    return main(
        ["x.yaml", "--trainer.default_root_dir", folder, "--trainer.max_steps", str(steps), *more]
    )


def last_state(folder):
    return AtomicCheckpointIO().load_checkpoint(checkpoints_of(Path(folder))[0])


def test_a_stopped_run_resumes_to_the_same_weights_and_its_adapter_reloads(capsys):
    stop = random.SystemRandom().randint(1, STEPS - 1)
    assert fit("uninterrupted", STEPS) == 0
    assert fit("stopped", stop) == 0
    assert fit("stopped", STEPS) == 0
    full, stopped = last_state("uninterrupted"), last_state("stopped")
    torch.testing.assert_close(stopped["state_dict"], full["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(
        stopped["optimizer_states"], full["optimizer_states"], rtol=0, atol=0
    )
    assert all("lora_" in name or name.startswith("camera.") for name in full["state_dict"])
    for name in (
        "metrics.json",
        "config.yaml",
        "command.txt",
        "versions.json",
        "export/refocus.json",
    ):
        assert (Path("stopped") / name).is_file()
    output = capsys.readouterr().out
    assert all(f"{word}" in output for word in ("sheet", "metrics", "export"))
    camera = RefocusPipeline.from_export("stopped").camera.state_dict()
    assert torch.equal(camera["projector.weight"], full["state_dict"]["camera.projector.weight"])
    assert RefocusPipeline.from_export("stopped").config.size_px == 32


@pytest.mark.parametrize(("size_px", "such_as"), [("30", "32"), ("3", "4")])
def test_a_size_that_does_not_divide_into_tokens_is_one_sentence(capsys, size_px, such_as):
    assert fit("run", 1, "--data.init_args.size_px", size_px) == 2
    output = capsys.readouterr().err.strip().splitlines()[-1]
    assert output.startswith("data.size_px")
    assert f"a multiple of 4, such as {such_as}" in output


def rates(folder):
    """The learning rate after each saved step, as a share of the configured one."""
    checkpoints = reversed(checkpoints_of(Path(folder)))
    states = [AtomicCheckpointIO().load_checkpoint(path) for path in checkpoints]
    return [state["optimizer_states"][0]["param_groups"][0]["lr"] / 1e-4 for state in states]


def test_a_run_that_continues_another_warms_up_again_and_cools_down_to_its_last_step():
    schedule = ["--model.lr_schedule.warmup_steps", "4", "--model.lr_schedule.cooldown_steps", "3"]
    often = [
        "--checkpoint.every_n_train_steps",
        "1",
        "--checkpoint.keep",
        "9",
        "--trainer.limit_val_batches",
        "0",
    ]
    assert fit("first", 2, *often) == 0
    assert fit("second", 6, *schedule, *often, "--continue_from", "first") == 0
    assert rates("second") == pytest.approx([2 / 4, 2 / 3, 1 / 3, 0])
    assert fit("second", 9, *schedule, *often, "--continue_from", "first") == 0
    assert rates("second") == pytest.approx([2 / 4, 2 / 3, 1 / 3, 0, 2 / 3, 1 / 3, 0])


def test_another_rank_of_the_adapter_is_another_run(capsys):
    assert fit("run", 1) == 0
    assert fit("run", 2, "--model.init_args.lora.rank", "8") == 2
    output = capsys.readouterr().err
    assert "lora.rank" in output
    assert "--trainer.default_root_dir" in output
