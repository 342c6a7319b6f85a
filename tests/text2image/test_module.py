"""The training on a tiny real network: what is trained when, from what, with which gradients."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from diffusers import DDPMScheduler

from dofsuite.backbones import SmallSdxl
from dofsuite.backbones.sdxl import unet_calls
from dofsuite.diffusion import x_from_noise
from dofsuite.errors import UserError
from dofsuite.text2image import Lens, Stages
from dofsuite.text2image.dmd2.checks import check_batch
from dofsuite.text2image.dmd2.losses import distribution_matching_gradient
from dofsuite.text2image.dmd2.sample_buffer import Conditioning
from dofsuite.text2image.scene import Scene
from tests.text2image.tiny import (
    FULL,
    SHALLOW_GENERATOR,
    SIZE_PX,
    SIZES,
    STAGES,
    still,
    tiny_batch,
    tiny_module,
    train,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_text2image.txt"
STEPS = 20
EXACTLY_ALL = {"teacher": 210, "generator": 210, "critic": 210, "discriminator": 10, "focus": 134}
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
    """Records, of every step, which weights had a gradient, which moved, and what came in."""

    def __init__(self) -> None:
        self.graded, self.moved = [], []
        self.critic_pairs, self.generated, self.simulations = [], [], []
        self.norms, self.noted_norms = [], []

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
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        self.norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())

    def on_train_batch_end(self, trainer, module, *args) -> None:
        after = weights_of(module)
        name = module.active_optimizers(module.stages.step(trainer.global_step - 1))[0]
        self.noted_norms.append(module.latest[f"train/gradient_norm/{name}"])
        self.moved.append(
            {name for name in after if not torch.equal(after[name], self.before[name])}
        )
        self.simulations.append(self.times.count(999))
        self.generated.append(module.generated)
        if len(self.generated) > 1 and (sample := self.generated[-2]) is not None:
            expected = module.add_noise_at_random_t(sample.latent, self.index, "fake")[0]
            self.critic_pairs.append((self.critic_inputs[0], expected))


def weights_of(module):
    return {name: weight.detach().clone() for name, weight in module.networks.named_parameters()}


def by_network(names) -> Counter:
    return Counter(name.split(".")[0] for name in names)


@pytest.fixture(scope="module")
def run():
    """Two teacher steps, a cycle of the deep stage, a Deep and a Shallow cycle of the full stage.

    The sensor is small, so that the EXIF of the set gives discs of several pixels on images of
    32.
    """
    module, observer = tiny_module(lens=Lens(sensor_width_mm=9.0)), Observer()
    return module, observer, train(module, STEPS, callbacks=[observer])


def test_losses_are_the_golden_ones(run):
    """A refactor leaves them as they are; a change of behavior rewrites the file in the same
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
    step = STAGES.step(step)
    active = (
        ["teacher"]
        if step.stage == "teacher"
        else ["generator"]
        if step.is_generator
        else ["critic", "discriminator"]
    )
    expected = Counter(
        {name: EXACTLY_ALL[name] for name in active + ["focus"] * (step.stage != "teacher")}
    )
    if step.is_generator and step.is_shallow:
        expected["focus"] += 2
    return expected


@pytest.mark.parametrize("step", range(STEPS))
def test_a_step_moves_all_of_its_own_weights_and_no_other_has_a_gradient(run, step):
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


def test_the_critics_first_step_gets_the_generators_own_sample(run):
    _, observer, _ = run
    assert [step for step, sample in enumerate(observer.generated) if sample is not None] == [
        2,
        8,
        14,
    ]
    assert len(observer.critic_pairs) == 3
    for found, expected in observer.critic_pairs:
        assert torch.equal(found, expected)


def test_on_a_shallow_cycle_that_sample_is_the_encoded_photograph():
    full = tiny_module(stages=FULL)
    step, batch = FULL.step(SHALLOW_GENERATOR), tiny_batch(shallow=True)
    _, generated = full.losses(step, batch, None)
    image = full.networks.decode(full.backward_simulation(batch, step))
    depth = full.networks.depth(image)
    focus = full.networks.focus(image, depth)
    scene = Scene(None, image, depth, focus.focus_distance, focus.scale_mm)
    photograph = Lens().photograph(scene, generated.cond.exif, batch.width_px)
    assert (photograph - image).abs().mean() > 0.01
    torch.testing.assert_close(
        full.networks.decode(generated.latent), photograph, rtol=1e-4, atol=1e-4
    )
    assert not generated.latent.requires_grad


def test_global_step_counts_steps_and_not_the_focus_predictors_steps(run):
    module, _, _ = run
    assert module.trainer.global_step == STEPS
    steps = [
        max(int(state["step"]) for state in o.state.values()) for o in module.trainer.optimizers
    ]
    assert dict(zip(module.trained, steps, strict=True)) == {
        "generator": 3,
        "critic": 15,
        "focus": 18,
        "teacher": 2,
    }


def test_figures_of_both_kinds_are_kept_for_the_log(run):
    module, _, losses = run
    kinds = ("deep", "shallow")
    by_kind = ("dm", "gan_generator", "dm_gradient_norm", "fake_score", "gan_discriminator")
    by_kind += ("judged_real/real", "judged_real/fake", "focus_distance", "scale_mm")
    names = [f"{name}/{kind}" for name in by_kind for kind in kinds]
    names += ["gradient_norm/generator", "gradient_norm/critic", "gradient_norm/focus"]
    names += ["focus_distance/samples", "scale_mm/samples", "gradient_norm/teacher"]
    assert {f"train/{name}" for name in names} <= module.latest.keys()
    assert all(value.isfinite() and value >= 0 for value in module.latest.values())
    assert module.latest["train/dm/deep"] == losses[8]["dm/deep"]
    assert module.latest["train/fake_score/shallow"] == losses[19]["fake_score"]
    for label in ("real", "fake"):
        assert 0 < module.latest[f"train/judged_real/{label}/deep"] < 1


def test_the_noted_gradient_norm_is_that_before_clipping(run):
    _, observer, _ = run
    for stepped_with, noted in zip(observer.norms, observer.noted_norms, strict=True):
        assert min(float(noted), 10.0) == pytest.approx(float(stepped_with), rel=1e-4)


def test_the_noted_norm_of_distribution_matching_is_that_of_its_gradient():
    module, batch = tiny_module(stages=FULL), tiny_batch()
    step = FULL.step(0)
    with torch.no_grad():
        _, sample = module.generator_step(batch, step)
        scores = module.x0_predictions(sample.latent, sample.cond, batch.index.tolist())
    expected = distribution_matching_gradient(sample.latent, *scores).norm()
    (noted,) = module.noted["dm_gradient_norm/deep"]
    assert float(noted) == pytest.approx(float(expected), rel=1e-4)


# --- mistakes, and the baselines ---


@pytest.mark.parametrize(
    ("stages", "step", "message"),
    [
        (STAGES, 14, r"step 14 learns from the Shallow"),
        (STAGES, 8, r"step 8 learns from the Deep"),
        (Stages(), 6, r"step 6 learns from the Deep"),
    ],
)
def test_a_batch_of_the_other_set_is_an_error_of_one_sentence(stages, step, message):
    step = stages.step(step)
    check_batch(tiny_batch(shallow=step.is_shallow), step, SIZE_PX, True)
    with pytest.raises(UserError, match=f"data.train: {message}"):
        check_batch(tiny_batch(shallow=not step.is_shallow), step, SIZE_PX, True)


@pytest.mark.parametrize("missing", ["f_number", "focal_length_mm"])
def test_missing_exif_in_a_step_with_the_lens_is_one_sentence(missing):
    batch, step = tiny_batch(shallow=True), FULL.step(SHALLOW_GENERATOR)
    numbers = getattr(batch, missing).clone()
    numbers[1] = torch.nan
    batch = batch._replace(**{missing: numbers})
    with pytest.raises(UserError, match=f"data.require_exif: the image {batch.key[1]} "):
        check_batch(batch, step, SIZE_PX, has_lens=True)
    check_batch(batch, step, SIZE_PX, has_lens=False)


def test_exif_baseline_runs_through_all_stages_without_depth_saliency_and_focus():
    stages = Stages(teacher=1, deep=2, critic_steps=1, critic_order="same_kind")
    module, observer = (
        tiny_module(lens=None, exif_conditioned=("generator", "critic", "teacher"), stages=stages),
        Observer(),
    )
    losses = train(module, 7, callbacks=[observer])
    assert [stages.step(step).is_shallow for step in losses] == [False] * 5 + [True] * 2
    assert {name.split(".")[0] for name in weights_of(module)} == {
        "teacher",
        "generator",
        "critic",
        "discriminator",
    }
    assert all(
        torch.isfinite(torch.tensor(list(named.values()))).all() for named in losses.values()
    )
    embedders = {name for name in observer.graded[5] if ".exif." in name}
    assert embedders == {f"generator.time_embedding.exif.{layer}" for layer in EMBEDDER}


@pytest.mark.parametrize("conditioned", ["generator", "critic", "teacher"])
def test_an_exif_conditioned_network_follows_it_and_the_others_do_not(conditioned):
    module = tiny_module(exif_conditioned=(conditioned,))
    with torch.no_grad():
        for name in ("generator", "critic", "teacher"):
            embedder = getattr(module.networks, name).time_embedding.exif
            embedder.last.weight.normal_(generator=torch.Generator().manual_seed(0))
    batch = tiny_batch(shallow=True)
    conds = [Conditioning.of(batch), Conditioning.of(batch._replace(f_number=batch.f_number * 8))]
    noisy, t = torch.randn(2, 12, 16, 16), torch.full((2,), 500)
    for name in ("generator", "critic", "teacher"):
        open_, stopped_down = (
            module.networks.denoiser(name, cond).noise(noisy, t) for cond in conds
        )
        assert torch.equal(open_, stopped_down) == (name != conditioned)


def test_a_v_predicting_network_learns_v_and_its_output_is_converted_to_eps():
    module = tiny_module(backbone=SmallSdxl(**SIZES, prediction="v_prediction"))
    batch = tiny_batch()
    with torch.no_grad():
        loss = module.teacher_step(batch)["teacher"]
        noisy, t, noise = module.add_noise_at_random_t(
            module.networks.encode(batch.image_srgb), batch.index.tolist(), "teacher"
        )
    stock = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    v = stock.get_velocity(module.networks.encode(batch.image_srgb), noise, t)
    denoiser = module.networks.denoiser("teacher", Conditioning.of(batch))
    with torch.no_grad():
        predicted = unet_calls.predict(
            denoiser.unet, noisy, t, denoiser.prompt, None, denoiser.downscale
        )
        assert loss.item() == pytest.approx((predicted - v).square().mean().item(), rel=1e-5)
        x = stock.alphas_cumprod[t].sqrt().reshape(-1, 1, 1, 1) * noisy
        x -= (1 - stock.alphas_cumprod[t]).sqrt().reshape(-1, 1, 1, 1) * predicted
        found = x_from_noise(noisy, denoiser.noise(noisy, t), t, module.networks.alphas_cumprod)
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)
