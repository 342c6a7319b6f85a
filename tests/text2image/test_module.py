"""The training on a tiny real network: who learns when, from what, and what reaches whom."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from diffusers import DDPMScheduler

from dofsuite.backbones import SmallSdxl
from dofsuite.diffusion import x_from_noise
from dofsuite.errors import UserError
from dofsuite.text2image import Lens, Stages
from dofsuite.backbones.sdxl import unet_calls
from dofsuite.text2image.dmd2.checks import check_batch
from dofsuite.text2image.dmd2.sample_buffer import Conditioning
from tests.text2image.tiny import (
    FULL,
    SHALLOW_GENERATOR,
    SIZES,
    STAGES,
    still,
    tiny_batch,
    tiny_module,
    train,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_text2image.txt"
TURNS = 20
EXACTLY_ALL = {"teacher": 210, "generator": 210, "critic": 210, "head": 10, "focus": 134}
"""Tensors of each network. Two more of the focus predictor, its scale's, learn through the lens
alone.
"""
EMBEDDER = ("first.weight", "first.bias", "last.weight", "last.bias")

pytestmark = pytest.mark.filterwarnings(
    "ignore:Found .* eval mode",
    "ignore:The '.*_dataloader' does not have many",
    "ignore:Total length of `list`",
)


class Observer(pl.Callback):
    """Notes, of every turn, which weights had a gradient, which moved, and what the networks
    saw.
    """

    def __init__(self) -> None:
        self.graded, self.moved, self.seen_by_critic, self.carried, self.simulations = (
            [],
            [],
            [],
            [],
            [],
        )

    def on_fit_start(self, trainer, module) -> None:
        module.networks.critic.register_forward_pre_hook(
            lambda _, args: self.critic_inputs.append(args[0].detach())
        )
        module.networks.generator.register_forward_pre_hook(
            lambda _, args: self.times.append(args[1].unique().item())
        )

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.critic_inputs, self.times = [], []
        self.index, self.before = batch.index.tolist(), weights_of(module)

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        named = module.networks.named_parameters()
        self.graded.append({name for name, weight in named if weight.grad is not None})

    def on_train_batch_end(self, trainer, module, *args) -> None:
        after = weights_of(module)
        self.moved.append(
            {name for name in after if not torch.equal(after[name], self.before[name])}
        )
        self.simulations.append(self.times.count(999))
        self.carried.append(module.carried)
        if len(self.carried) > 1 and (carried := self.carried[-2]) is not None:
            self.seen_by_critic.append(
                (self.critic_inputs[0], module.noised(carried.latent, self.index, "fake")[0])
            )


def weights_of(module):
    return {name: weight.detach().clone() for name, weight in module.networks.named_parameters()}


def by_network(names) -> Counter:
    return Counter(name.split(".")[0] for name in names)


@pytest.fixture(scope="module")
def run():
    """Two teacher turns, a cycle of the deep stage, a Deep and a Shallow cycle of the full stage.

    The sensor is a small one, so that the EXIF of the set gives discs of several pixels on pictures
    of 32.
    """
    module, observer = tiny_module(lens=Lens(sensor_width_mm=9.0)), Observer()
    return module, observer, train(module, TURNS, callbacks=[observer])


def test_losses_are_the_golden_ones(run):
    """A refactor leaves them as they are; a change of behaviour rewrites the file in the same
    commit and says why.
    """
    lines = [
        f"{step} {name} {value:.6g}"
        for step, losses in run[2].items()
        for name, value in losses.items()
    ]
    expected = GOLDEN.read_text().splitlines()
    assert [line.rsplit(" ", 1)[0] for line in lines] == [
        line.rsplit(" ", 1)[0] for line in expected
    ]
    for line, golden in zip(lines, expected, strict=True):
        assert float(line.split()[2]) == pytest.approx(float(golden.split()[2]), rel=2e-3), line


def expected_learners(step: int) -> Counter:
    turn = STAGES.turn(step)
    active_optimizers = (
        ["teacher"]
        if turn.stage == "teacher"
        else ["generator"]
        if turn.is_generator
        else ["critic", "head"]
    )
    expected = Counter(
        {
            name: EXACTLY_ALL[name]
            for name in active_optimizers + ["focus"] * (turn.stage != "teacher")
        }
    )
    if turn.is_generator and turn.is_shallow:
        expected["focus"] += 2
    return expected


@pytest.mark.parametrize("step", range(TURNS))
def test_a_turn_moves_all_of_its_own_weights_and_no_other_has_a_gradient(run, step):
    _, observer, _ = run
    assert by_network(observer.graded[step]) == expected_learners(step)
    moved = by_network(observer.moved[step])
    if step == STAGES.teacher:  # before it learns anything, the critic becomes the teacher's copy
        del moved["critic"]
    assert moved == expected_learners(step)


def test_generator_and_critic_begin_as_the_trained_teacher():
    module = tiny_module(optimizer=still, stages=Stages(teacher=1, deep=6))
    with torch.no_grad():
        for weight in module.networks.teacher.parameters():
            weight.add_(0.5)
    train(module, 3)
    for name, weight in module.networks.teacher.named_parameters():
        for network in (module.networks.generator, module.networks.critic):
            assert torch.equal(network.get_parameter(name), weight), name


def test_a_cycle_simulates_five_times(run):
    assert run[1].simulations == [0, 0] + 3 * [1, 0, 1, 1, 1, 1]


def test_the_critics_first_turn_sees_the_generators_own_sample(run):
    _, observer, _ = run
    assert [step for step, carried in enumerate(observer.carried) if carried is not None] == [
        2,
        8,
        14,
    ]
    assert len(observer.seen_by_critic) == 3
    for seen, expected in observer.seen_by_critic:
        assert torch.equal(seen, expected)


def test_on_a_shallow_cycle_that_sample_is_the_encoded_photograph():
    full = tiny_module(stages=FULL)
    turn, batch = FULL.turn(SHALLOW_GENERATOR), tiny_batch(shallow=True)
    _, carried = full.phase(turn, batch, None)
    image = full.networks.display(full.simulate(batch, turn))
    depth = full.networks.depth(image)
    focus = full.networks.focus(image, depth)
    photograph = Lens().photograph(
        image, depth, focus.focus_distance, focus.scale_mm, carried.asked.exif, batch.width_px
    )
    assert (photograph - image).abs().mean() > 0.01
    torch.testing.assert_close(
        full.networks.display(carried.latent), photograph, rtol=1e-4, atol=1e-4
    )
    assert not carried.latent.requires_grad


def test_global_step_counts_turns_and_not_the_focus_predictors_steps(run):
    module, _, _ = run
    assert module.trainer.global_step == TURNS
    steps = [
        max(int(state["step"]) for state in o.state.values()) for o in module.trainer.optimizers
    ]
    assert dict(zip(module.trained, steps, strict=True)) == {
        "generator": 3,
        "critic": 15,
        "focus": 18,
        "teacher": 2,
    }


# --- mistakes, and the baselines ---


@pytest.mark.parametrize(
    ("stages", "step", "said"),
    [
        (STAGES, 14, r"step 14 learns from the Shallow"),
        (STAGES, 8, r"step 8 learns from the Deep"),
        (Stages(), 6, r"step 6 learns from the Deep"),
    ],
)
def test_a_batch_of_the_other_set_is_refused_by_one_sentence(stages, step, said):
    turn = stages.turn(step)
    module = tiny_module(stages=stages)
    check_batch(tiny_batch(shallow=turn.is_shallow), turn, stages, module.networks)
    with pytest.raises(UserError, match=f"data.train: {said}"):
        check_batch(tiny_batch(shallow=not turn.is_shallow), turn, stages, module.networks)


@pytest.mark.parametrize("missing", ["f_number", "focal_length_mm"])
def test_missing_exif_on_a_turn_with_the_lens_is_one_sentence(missing):
    module, batch = tiny_module(stages=FULL), tiny_batch(shallow=True)
    numbers = getattr(batch, missing).clone()
    numbers[1] = torch.nan
    batch = batch._replace(**{missing: numbers})
    with pytest.raises(UserError, match=f"data.require_exif: the picture {batch.key[1]} "):
        check_batch(batch, FULL.turn(SHALLOW_GENERATOR), FULL, module.networks)
    check_batch(
        batch, FULL.turn(SHALLOW_GENERATOR), FULL, tiny_module(stages=FULL, lens=None).networks
    )


def test_exif_baseline_runs_through_all_stages_without_depth_saliency_and_focus():
    stages = Stages(teacher=1, deep=2, critic_steps=1)
    module, observer = (
        tiny_module(lens=None, exif=("generator", "critic", "teacher"), stages=stages),
        Observer(),
    )
    losses = train(module, 7, callbacks=[observer])
    assert [stages.turn(step).is_shallow for step in losses] == [False] * 5 + [True] * 2
    assert {name.split(".")[0] for name in weights_of(module)} == {
        "teacher",
        "generator",
        "critic",
        "head",
    }
    assert all(torch.isfinite(torch.tensor(list(turn.values()))).all() for turn in losses.values())
    told = {name for name in observer.graded[5] if ".exif." in name}
    assert told == {f"generator.time_embedding.exif.{layer}" for layer in EMBEDDER}


@pytest.mark.parametrize("told", ["generator", "critic", "teacher"])
def test_a_network_that_is_told_the_exif_answers_it_and_the_others_do_not(told):
    module = tiny_module(exif=(told,))
    with torch.no_grad():
        for name in ("generator", "critic", "teacher"):
            embedder = getattr(module.networks, name).time_embedding.exif
            embedder.last.weight.normal_(generator=torch.Generator().manual_seed(0))
    batch = tiny_batch(shallow=True)
    asked = [Conditioning.of(batch), Conditioning.of(batch._replace(f_number=batch.f_number * 8))]
    noisy, t = torch.randn(2, 12, 16, 16), torch.full((2,), 500)
    for name in ("generator", "critic", "teacher"):
        open_, stopped_down = (module.ask(name, one).noise(noisy, t) for one in asked)
        assert torch.equal(open_, stopped_down) == (name != told)


def test_a_network_that_predicts_v_learns_v_and_is_heard_as_noise():
    module = tiny_module(backbone=SmallSdxl(**SIZES, prediction="v_prediction"))
    batch = tiny_batch()
    with torch.no_grad():
        loss = module.teacher_phase(batch)["teacher"]
        noisy, t, noise = module.noised(
            module.networks.latent(batch.image_srgb), batch.index.tolist(), "teacher"
        )
    stock = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    v = stock.get_velocity(module.networks.latent(batch.image_srgb), noise, t)
    ask = module.ask("teacher", Conditioning.of(batch))
    with torch.no_grad():
        predicted = unet_calls.predict(ask.unet, noisy, t, ask.prompt, None, ask.downscale)
        assert loss.item() == pytest.approx((predicted - v).square().mean().item(), rel=1e-5)
        x = stock.alphas_cumprod[t].sqrt().reshape(-1, 1, 1, 1) * noisy
        x -= (1 - stock.alphas_cumprod[t]).sqrt().reshape(-1, 1, 1, 1) * predicted
        found = x_from_noise(noisy, ask.noise(noisy, t), t, module.alphas)
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)
