"""The rate's factor against its closed form: a ramp up, a plateau, a ramp down to the run's last
step.
"""

import pytest

from dofsuite.training.lr_schedule import LrSchedule, start_step


def test_without_numbers_the_rate_is_the_paper_s_constant():
    assert [LrSchedule().factor(step, 10) for step in range(11)] == [1.0] * 11


def test_the_rate_rises_to_its_plateau_and_falls_to_nothing():
    factors = [LrSchedule(warmup_steps=4, cooldown_steps=5).factor(step, 12) for step in range(14)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0])


def test_where_the_ramps_meet_the_lower_one_holds():
    factors = [LrSchedule(warmup_steps=4, cooldown_steps=4).factor(step, 4) for step in range(4)]
    assert factors == pytest.approx([0.25, 0.5, 0.5, 0.25])


def test_a_run_without_end_never_falls():
    assert LrSchedule(cooldown_steps=5).factor(10**6, -1) == 1.0


def test_a_run_that_continues_another_rises_anew_and_falls_at_the_last_step_of_both():
    factors = [
        LrSchedule(warmup_steps=2, cooldown_steps=3).factor(step, 3606, start_step=3600)
        for step in range(7)
    ]
    assert factors == pytest.approx([0.5, 1, 1, 1, 2 / 3, 1 / 3, 0])


@pytest.mark.parametrize(
    ("made", "counted", "begun"),
    [(3600, [], 3600), (3700, [{"last_epoch": 100}], 3600), (3600, [{"last_epoch": 3600}], 0)],
)
def test_a_run_begins_where_its_own_scheduler_began_to_count(made, counted, begun):
    assert start_step({"global_step": made, "lr_schedulers": counted}) == begun


@pytest.mark.parametrize("wrong", [{"warmup_steps": -1}, {"cooldown_steps": -1}])
def test_steps_below_0_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LrSchedule(**wrong)
