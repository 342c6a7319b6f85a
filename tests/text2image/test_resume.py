"""Stopped after any step and resumed, a run goes on bit for bit as if nothing had happened."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from dofsuite.text2image import Stages, Training
from dofsuite.training.checkpoints.io import read_checkpoint
from tests.text2image.tiny import STAGES, tiny_data, tiny_module, train

RUNS = {
    "cycles of 3": (Stages(teacher=1, deep=3, critic_steps=2, critic_order="same_kind"), 10),
    "cycles of 6": (STAGES, 20),
}
"""Each through a teacher stage, a cycle of the deep one, and a Deep and a Shallow cycle of the full
one.
"""
OPTIONS = {"training": Training(micro_batches=2, ema_decay=0.9, warmup_steps=3)}
SLOW = pytest.mark.slow

pytestmark = pytest.mark.filterwarnings(
    "ignore:Found .* eval mode",
    "ignore:The '.*_dataloader' does not have many",
    "ignore:Total length of `list`",
)


def checkpoint(folder: Path, steps: int) -> Path:
    return folder / "checkpoints" / f"step-{steps:08d}.ckpt"


@pytest.fixture(scope="module")
def full_run(tmp_path_factory):
    """Give a run that was not interrupted: its folder, with a checkpoint of every step, and its
    losses.
    """

    @cache
    def run(name):
        (stages, steps), folder = RUNS[name], tmp_path_factory.mktemp("full")
        return folder, train(tiny_module(stages=stages, **OPTIONS), steps, folder)

    return run


EVERYWHERE = [
    # Before the first step of the generator; between its own and the critic's on a Deep and a
    # Shallow cycle; after.
    *[
        pytest.param("cycles of 3", steps, marks=() if steps in (1, 2, 8, 9) else SLOW)
        for steps in range(1, 10)
    ],
    *[pytest.param("cycles of 6", steps, marks=SLOW) for steps in range(1, 20)],
]


@pytest.mark.parametrize(("name", "steps"), EVERYWHERE)
def test_resumed_after_any_step_the_next_two_are_the_same(full_run, name, steps):
    (folder, losses), (stages, last) = full_run(name), RUNS[name]
    until = min(steps + 2, last)
    resumed = train(tiny_module(stages=stages, **OPTIONS), until, resume=checkpoint(folder, steps))
    assert resumed == {step: losses[step] for step in range(steps, until)}


@pytest.mark.parametrize("steps", [pytest.param(1, marks=SLOW), pytest.param(5, marks=SLOW), 8])
def test_resumed_run_ends_with_the_same_weights_moments_and_average(full_run, tmp_path, steps):
    (folder, losses), (stages, last) = full_run("cycles of 3"), RUNS["cycles of 3"]
    resumed = train(
        tiny_module(stages=stages, **OPTIONS), last, tmp_path, resume=checkpoint(folder, steps)
    )
    assert resumed == {step: losses[step] for step in range(steps, last)}
    one, other = (read_checkpoint(checkpoint(run, last)) for run in (folder, tmp_path))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(one[part], other[part], rtol=0, atol=0)
    assert (one["global_step"], one["ShardData"]) == (other["global_step"], other["ShardData"])


def test_checkpoint_holds_what_is_trained_and_no_frozen_network(full_run):
    folder, _ = full_run("cycles of 3")
    names = {
        ".".join(name.split(".")[:2])
        for name in read_checkpoint(checkpoint(folder, 3))["state_dict"]
    }
    trained = {
        f"networks.{name}" for name in ("generator", "critic", "discriminator", "focus", "teacher")
    }
    assert names == trained | {"ema_generator.module", "ema_generator.n_averaged"}


def test_a_teacher_that_is_not_trained_is_in_no_checkpoint(tmp_path):
    train(tiny_module(stages=Stages(deep=6)), 1, tmp_path)
    names = {name.split(".")[1] for name in read_checkpoint(checkpoint(tmp_path, 1))["state_dict"]}
    assert names == {"generator", "critic", "discriminator", "focus"}


def test_the_sample_is_in_the_checkpoint_between_its_two_steps_alone(full_run):
    folder, _ = full_run("cycles of 3")
    held = {
        steps: read_checkpoint(checkpoint(folder, steps))["generated"]
        for steps in (1, 2, 3, 7, 8, 9)
    }
    assert [steps for steps in held if held[steps]] == [2, 8]
    assert held[8]["latent"].shape == (2, 12, 16, 16)


def test_another_batch_size_goes_on_with_a_sample_of_its_own(full_run):
    (folder, losses), (stages, _) = full_run("cycles of 3"), RUNS["cycles of 3"]
    data = tiny_data(Stages(deep=600), batch_size=4)  # the Deep set alone, whatever came before
    resumed = train(
        tiny_module(stages=stages, **OPTIONS), 3, resume=checkpoint(folder, 2), data=data
    )
    assert resumed[2]["fake_score"] == pytest.approx(losses[2]["fake_score"], rel=0.2)
    assert resumed[2]["fake_score"] != losses[2]["fake_score"]
