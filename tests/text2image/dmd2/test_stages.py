"""What each step trains, over the stages of a run."""

from __future__ import annotations

import pytest

from dofsuite.text2image import Stages

STAGES = Stages(teacher=4, deep=12, critic_order="same_kind")


def test_stages_follow_each_other_and_begin_with_a_generator_step():
    steps = [STAGES.step(index) for index in range(4 + 12 + 24)]
    assert [step.stage for step in steps] == ["teacher"] * 4 + ["deep"] * 12 + ["full"] * 24
    assert [step.index for step in steps] == list(range(40))
    assert [step.index for step in steps if step.is_generator] == [4, 10, 16, 22, 28, 34]
    assert [step.index for step in steps if step.reuses_generator_sample] == [5, 11, 17, 23, 29, 35]


def test_full_stage_alternates_between_the_sets_in_whole_cycles():
    shallow = [STAGES.step(step).is_shallow for step in range(16, 16 + 24)]
    assert shallow == [False] * 6 + [True] * 6 + [False] * 6 + [True] * 6
    assert not any(STAGES.step(step).is_shallow for step in range(16))


def test_a_cycle_has_one_generator_step_and_critic_steps_as_configured():
    stages = Stages(critic_steps=2)
    is_generator = [stages.step(step).is_generator for step in range(7)]
    assert is_generator == [True, False, False, True, False, False, True]


ORDERS = {
    # Of two cycles: G or C for generator or critic, its kind, ! where the sample is the generator's
    "same_kind": "Gd Cd! Cd Cd Cd Cd Gs Cs! Cs Cs Cs Cs",
    "mixed": "Gd Cd! Cs Cd Cs Cd Gs Cs! Cd Cs Cd Cs",
    "critic_first": "Cd Cd Cd Cd Cd Gd Cs Cs Cs Cs Cs Gs",
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_full_stage_has_the_order_of_its_name_and_the_data_follow_it(order):
    stages = Stages(teacher=4, deep=6, critic_order=order)
    steps = [stages.step(index) for index in range(10, 10 + 24)]
    shown = " ".join(
        f"{'G' if step.is_generator else 'C'}{step.kind[0]}"
        f"{'!' if step.reuses_generator_sample else ''}"
        for step in steps
    )
    assert shown == f"{ORDERS[order]} {ORDERS[order]}"
    assert [stages.step(index) for index in range(10)] == [
        STAGES.step(index) for index in range(10)
    ]

    # Two samples a step; the draws of each source are counted without a gap.
    mix = stages.source_mix.for_steps_of(2)
    drawn = [mix.source_at(position, 0) for position in range(20, 20 + 48)]
    assert [source for source, _ in drawn[::2]] == [step.is_shallow for step in steps]
    assert drawn[0::2] == [(source, draw - 1) for source, draw in drawn[1::2]]
    for source in (0, 1):
        draws = [draw for each, draw in drawn if each == source]
        assert draws == list(range(draws[0], draws[0] + len(draws)))


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_shallow_step_is_counted(order):
    stages = Stages(teacher=4, deep=6, critic_order=order)
    shallow = [index for index in range(10, 40) if stages.step(index).is_shallow]
    assert stages.first_shallow == shallow[0]


def test_without_an_end_the_deep_stage_lasts():
    assert Stages(teacher=1).step(10**6).stage == "deep"
    assert Stages(teacher=1).full_from is None


def test_without_a_deep_stage_the_full_one_begins_at_once():
    assert Stages(deep=0).step(0).stage == "full"


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"teacher": -1}, "teacher"),
        ({"critic_steps": 0}, "critic_steps"),
        ({"deep": 7}, "deep: .*6"),
    ],
)
def test_stages_that_cannot_be_counted_are_errors_that_name_the_key(numbers, named):
    with pytest.raises(ValueError, match=named):
        Stages(**numbers)
