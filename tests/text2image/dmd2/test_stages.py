"""What each step trains, over the stages of a run."""

from __future__ import annotations

import pytest

from dofsuite.text2image import Stages

STAGES = Stages(teacher=4, deep=12)


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
    assert [stages.step(step).phase_index for step in range(7)] == [0, 1, 2, 0, 1, 2, 0]


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
