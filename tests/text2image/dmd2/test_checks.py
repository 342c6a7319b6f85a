"""What no training by turns can have is one sentence before its first turn."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

from dofsuite.data import CycleSchedule, ShardData, SourceSchedule
from dofsuite.data.sampler import source_at
from dofsuite.errors import UserError
from dofsuite.text2image import FocusPredictorConfig, Stages
from dofsuite.text2image.dmd2.checks import (
    check_checkpoint,
    check_trained_weights,
    first_wrong_turn,
)
from dofsuite.text2image.dmd2.losses import Weights
from tests.text2image.tiny import SIZE_PX, STAGES, tiny_data, tiny_module, train

SHORT = Stages(deep=2, critic_steps=1)
"""Deep turns 0 to 3 (two of the full stage's), then Shallow ones, in cycles of two."""
SOURCES = {"deep": "synthetic:deep", "shallow": "synthetic:shallow"}

pytestmark = pytest.mark.filterwarnings(
    "ignore:Found .* eval mode",
    "ignore:The '.*_dataloader' does not have many",
    "ignore:Total length of `list`",
)


class Turns(pl.Callback):
    """Counts the turns that were begun."""

    begun = 0

    def on_train_batch_start(self, *args) -> None:
        self.begun += 1


# --- the trainer -----------------------------------------------------------------------------------------------------


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
def test_a_precision_without_float32_weights_is_refused(short, precision):
    with pytest.raises(
        UserError, match=rf"^trainer\.precision: {precision} .* write bf16-mixed, or 32-true\.$"
    ):
        set_up(short, precision=precision)
    set_up(short, precision="bf16-mixed")


def test_trained_weights_in_half_precision_are_refused_and_frozen_ones_are_not():
    module = tiny_module(stages=Stages())
    module.networks.teacher.bfloat16()
    check_trained_weights(module.trained)
    module.networks.critic.bfloat16()
    with pytest.raises(
        UserError, match=r"^model\.backbone\.dtype: bfloat16 weights of the critic .* write float32"
    ):
        train(module, 1)


def test_a_ddp_that_waits_for_every_weight_is_refused(short):
    with pytest.raises(
        UserError,
        match=r"^trainer\.strategy: ddp .* write ddp_find_unused_parameters_true, or fsdp2",
    ):
        set_up(short, devices=2, strategy="ddp")
    set_up(short, devices=2, strategy="ddp_find_unused_parameters_true")


# --- the data --------------------------------------------------------------------------------------------------------


def data_of(sources=SOURCES, batch_size=2, **schedule) -> ShardData:
    return ShardData(
        sources, batch_size=batch_size, size_px=SIZE_PX, schedule=CycleSchedule(**schedule)
    )


@pytest.mark.parametrize(
    ("deep", "data", "said"),
    [
        (
            2,
            data_of(samples_per_step=16, turns=2, start_step=2),
            r"turn 4 .*Shallow.* and samples_per_step: 2 \(",
        ),
        (4, data_of(samples_per_step=2, turns=2, start_step=2), "turn 4 .*start_step: 4"),
        (2, data_of(samples_per_step=2, turns=2, start_step=4), "turn 4 .*start_step: 2"),
        (2, data_of(samples_per_step=2, turns=4, start_step=2), "turn 4 .*turns: 2"),
        (2, data_of({"deep": "synthetic:deep"}, samples_per_step=2), "turn 4 .*Shallow"),
    ],
    ids=["batch", "deep", "start", "turns", "one set"],
)
def test_data_that_alternate_elsewhere_are_refused_before_the_first_turn(
    short, monkeypatch, deep, data, said
):
    monkeypatch.setattr(short, "stages", Stages(deep=deep, critic_steps=1))
    turns = Turns()
    with pytest.raises(UserError, match=rf"^data\.schedule: {said}"):
        train(short, 8, data=data, callbacks=[turns])
    assert turns.begun == 0


def test_a_run_that_ends_before_the_sets_alternate_may_have_any_cycles():
    data = data_of(samples_per_step=16, turns=2, start_step=2)
    assert first_wrong_turn(SHORT, data, 2, 0, 4) is None
    assert first_wrong_turn(SHORT, data, 2, 0, 5) == SHORT.turn(4)


@pytest.mark.parametrize("mixed", [1, 4])
def test_turns_of_both_sets_are_the_teachers(short, monkeypatch, mixed):
    monkeypatch.setattr(short, "stages", STAGES)
    data = data_of(samples_per_step=2, turns=6, start_step=8, interleave_steps=mixed)
    with pytest.raises(
        UserError,
        match=rf"^data\.schedule\.interleave_steps: {mixed} turns .* interleave_steps: 2, or",
    ):
        train(short, 1, data=data)


@pytest.mark.parametrize(
    ("schedule", "stages"),
    [
        (CycleSchedule(4, 6, 8), STAGES),
        (CycleSchedule(8, 6, 8), STAGES),
        (CycleSchedule(4, 6, 20), STAGES),
        (CycleSchedule(4, 5, 8), STAGES),
        (CycleSchedule(4, 6, 8), Stages(teacher=2)),
        (SourceSchedule(0.0, 1.0, 30, 40, 4), STAGES),
        (SourceSchedule(0.0, 0.0, samples_per_step=4), Stages()),
    ],
)
@pytest.mark.parametrize(("begun", "seen"), [(0, 0), (9, 36), (9, 38), (20, 80)])
def test_the_first_wrong_turn_is_that_of_the_samples_drawn_one_by_one(
    schedule, stages, begun, seen
):
    data = ShardData(SOURCES, batch_size=4, schedule=schedule)
    data.load_state_dict({"samples_seen": seen})
    wrong = [
        step
        for step in range(begun, 60)
        for sample in range(seen + (step - begun) * 4, seen + (step + 1 - begun) * 4)
        if step >= stages.teacher
        and source_at(sample, 0, 2, schedule)[0] != int(stages.turn(step).is_shallow)
    ]
    found = first_wrong_turn(stages, data, 4, begun, 60)
    assert (found and found.step) == (wrong[0] if wrong else None)


def test_pictures_of_another_size_are_refused_by_both_keys(short):
    data = ShardData(SOURCES, batch_size=2, size_px=16, schedule=tiny_data().schedule)
    with pytest.raises(
        UserError, match=r"^data\.size_px: pictures of 16 x 16 px came and model\.size_px is 32"
    ):
        train(short, 1, data=data)


@pytest.mark.parametrize(("size_px", "given"), [(50, 48), (1, 4), (31, 32)])
def test_a_side_that_the_levels_do_not_divide_is_refused(size_px, given):
    with pytest.raises(
        UserError, match=rf"^model\.size_px: {size_px} is no multiple of 4, .* give {given} here"
    ):
        tiny_module(size_px=size_px)


# --- a checkpoint, and numbers ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    train(tiny_module(stages=Stages(deep=6)), 1, folder)
    return folder / "checkpoints" / "step-00000001.ckpt"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lens": None}, r"^model\.lens: .* trained the focus's weights and this one does not;"),
        (
            {"exif": ("critic",)},
            r"^model\.exif: the run that this one continues had \[\], not \[critic\];",
        ),
        (
            {"stages": Stages(1, 6)},
            r"^model\.stages\.teacher: .* did not train the teacher's weights and this one does;",
        ),
    ],
    ids=["lens", "exif", "teacher"],
)
def test_a_run_of_other_networks_cannot_be_continued(begun, options, said):
    with pytest.raises(UserError, match=said):
        train(tiny_module(**{"stages": Stages(deep=6), **options}), 2, resume=begun)


def test_a_checkpoint_from_before_its_networks_were_noted_is_taken():
    check_checkpoint({}, {"trained": ["generator", "critic"], "exif": []})


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
def test_numbers_that_no_training_has_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        make()


def test_a_scale_that_is_known_may_stay_as_it_is():
    predictor = FocusPredictorConfig(small=True, largest_scale_factor=1.0).build()
    depth = torch.linspace(1, 5, 64 * 64).reshape(1, 1, 64, 64)
    assert predictor(torch.rand(1, 3, 64, 64), depth).scale_mm.item() == 1000
