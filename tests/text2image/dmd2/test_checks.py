"""What alternating training cannot have is an error of one sentence before its first step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch

from dofsuite.data import ShardData
from dofsuite.errors import UserError
from dofsuite.text2image import FocusPredictorConfig, Stages
from dofsuite.text2image.dmd2.checks import check_network_signature, check_trained_weights
from dofsuite.text2image.dmd2.losses import Weights
from tests.text2image.tiny import FULL, SIZE_PX, STAGES, tiny_data, tiny_module, train

SLOW = pytest.mark.slow
SHORT = Stages(deep=2, critic_steps=1)
"""Deep steps 0 to 3 (two of the full stage's), then Shallow ones, in cycles of two."""
SOURCES = {"deep": "synthetic:deep", "shallow": "synthetic:shallow"}

pytestmark = pytest.mark.filterwarnings(
    "ignore:Found .* eval mode",
    "ignore:The '.*_dataloader' does not have many",
    "ignore:Total length of `list`",
)


class StepCounter(pl.Callback):
    """Counts the steps that were begun."""

    begun = 0

    def on_train_batch_start(self, *args) -> None:
        self.begun += 1


# --- the trainer ---


@pytest.fixture(scope="module")
def short():
    """A module that no test trains."""
    return tiny_module(stages=SHORT)


def set_up(module, **options) -> None:
    module._trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, **options
    )
    module.setup("fit")


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_a_precision_without_float32_weights_is_an_error(short, precision):
    with pytest.raises(
        UserError, match=rf"^trainer\.precision: {precision} .* write bf16-mixed, or 32-true\.$"
    ):
        set_up(short, precision=precision)
    set_up(short, precision="bf16-mixed")


def test_trained_weights_in_half_precision_are_an_error_and_frozen_ones_are_not():
    module = tiny_module(stages=Stages())
    module.networks.teacher.bfloat16()
    check_trained_weights(module.trained)
    module.networks.critic.bfloat16()
    with pytest.raises(
        UserError, match=r"^model\.backbone\.dtype: bfloat16 weights of the critic .* write float32"
    ):
        train(module, 1)


def test_a_ddp_that_waits_for_every_weight_is_an_error(short):
    with pytest.raises(
        UserError,
        match=r"^trainer\.strategy: ddp .* write ddp_find_unused_parameters_true, or fsdp2",
    ):
        set_up(short, devices=2, strategy="ddp")
    set_up(short, devices=2, strategy="ddp_find_unused_parameters_true")


def test_lightning_s_weight_averaging_is_an_error_that_names_ours(short):
    averaging = pl.callbacks.EMAWeightAveraging(decay=0.9)
    with pytest.raises(UserError, match=r"^trainer\.callbacks: .*model\.training\.ema_decay"):
        set_up(short, callbacks=[averaging])


# --- the data ---


def data_of(sources=SOURCES, **options) -> ShardData:
    return ShardData(sources, batch_size=2, size_px=SIZE_PX, **options)


@pytest.mark.parametrize(
    "stages",
    [
        STAGES,
        FULL,
        Stages(teacher=3),
        Stages(deep=4, critic_steps=1),
        Stages(),
        Stages(deep=6, critic_order="mixed"),
        Stages(deep=4, critic_steps=1, critic_order="critic_first"),
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [1, 4])
def test_each_step_s_samples_are_of_the_set_that_it_learns_from(stages, samples):
    mix = stages.source_mix.for_steps_of(samples)
    for step in range(60):
        drawn = {
            mix.source_at(position, seed=0)[0]
            for position in range(step * samples, (step + 1) * samples)
        }
        wanted = step % 2 if step < stages.teacher else int(stages.step(step).is_shallow)
        assert drawn == {wanted}


@pytest.mark.parametrize(
    "order", ["same_kind", *(pytest.param(o, marks=SLOW) for o in ("mixed", "critic_first"))]
)
def test_a_run_mixes_its_sets_by_the_model_s_stages(order):
    steps, stages = StepCounter(), replace(SHORT, critic_order=order)
    losses = train(tiny_module(stages=stages), 6, data=data_of(), callbacks=[steps])
    assert steps.begun == 6
    generated = [step for step in losses if any(name.startswith("dm/") for name in losses[step])]
    assert generated == [step for step in range(6) if stages.step(step).is_generator]


def test_a_run_that_comes_to_the_shallow_set_without_one_is_an_error_before_its_first_step():
    short, steps = tiny_module(stages=SHORT), StepCounter()
    deep_alone = data_of({"deep": SOURCES["deep"]})
    with pytest.raises(UserError, match=r"^data\.train: from step 4 on .* Shallow"):
        train(short, 8, data=deep_alone, callbacks=[steps])
    assert steps.begun == 0
    train(short, 4, data=deep_alone, callbacks=[steps])
    assert steps.begun == 4


def test_images_of_another_size_are_an_error_with_both_keys(short):
    data = ShardData(SOURCES, batch_size=2, size_px=16, source_mix=tiny_data().source_mix)
    with pytest.raises(
        UserError, match=r"^data\.size_px: images of 16 x 16 px came and model\.size_px is 32"
    ):
        train(short, 1, data=data)


@pytest.mark.parametrize(("size_px", "given"), [(50, 48), (1, 4), (31, 32)])
def test_a_side_that_the_levels_do_not_divide_is_an_error(size_px, given):
    with pytest.raises(
        UserError, match=rf"^model\.size_px: {size_px} is no multiple of 4, .* give {given} here"
    ):
        tiny_module(size_px=size_px)


# --- a checkpoint, and numbers ---


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    train(tiny_module(stages=Stages(deep=6)), 1, folder)
    return folder / "checkpoints" / "step-00000001.ckpt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lens": None}, r"^model\.lens: .* trained the focus's weights and this one does not;"),
        (
            {"exif_conditioned": ("critic",)},
            r"^model\.exif_conditioned: the run that this one continues had \[\], not \[critic\];",
        ),
        (
            {"stages": Stages(1, 6)},
            r"^model\.stages\.teacher: .* did not train the teacher's weights and this one does;",
        ),
    ],
    ids=["lens", "exif", "teacher"],
)
def test_a_run_of_other_networks_cannot_be_continued(begun, options, message):
    with pytest.raises(UserError, match=message):
        train(tiny_module(**{"stages": Stages(deep=6), **options}), 2, resume=begun)


def test_a_checkpoint_from_before_the_key_was_renamed_is_compared():
    now = {"trained": ["generator", "critic"], "exif_conditioned": ["critic"]}
    check_network_signature({"trained": now["trained"], "exif": ["critic"]}, now)
    with pytest.raises(UserError, match=r"^model\.exif_conditioned: .* had \[\], not \[critic\]"):
        check_network_signature({"trained": now["trained"], "exif": []}, now)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (
            lambda: FocusPredictorConfig(largest_scale_factor=0.0),
            "largest_scale_factor must be 1 or more",
        ),
        (
            lambda: FocusPredictorConfig(largest_scale_factor=0.5),
            "largest_scale_factor must be 1 or more",
        ),
        (
            lambda: FocusPredictorConfig(largest_scale_factor=float("inf")),
            "largest_scale_factor must be",
        ),
        (
            lambda: FocusPredictorConfig(initial_scale_mm=-1000.0),
            "initial_scale_mm must be above 0",
        ),
        (lambda: Weights(focus=-1.0), r"weights\.focus must be 0 or more"),
        (lambda: Weights(gan_critic=float("nan")), r"weights\.gan_critic must be 0 or more"),
    ],
)
def test_numbers_that_no_training_has_are_an_error_with_name(make, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        make()


def test_a_scale_that_is_known_may_stay_as_it_is():
    predictor = FocusPredictorConfig(small=True, largest_scale_factor=1.0).build()
    depth = torch.linspace(1, 5, 64 * 64).reshape(1, 1, 64, 64)
    assert predictor(torch.rand(1, 3, 64, 64), depth).scale_mm.item() == 1000
