"""Two sources in whole cycles of steps: the same for every shape of the run, and across an
interruption.
"""

from __future__ import annotations

import itertools

import pytest

from dofsuite.data.dataset import TrainSamples
from dofsuite.data.module import ShardData
from dofsuite.data.source_mix import CycleMix, ShareRamp, SourceMix
from dofsuite.errors import UserError

CYCLES = CycleMix(samples_per_step=4, steps_per_cycle=3, start_step=2)


def source_of_step(step: int) -> int:
    """Two steps of the first source, then three steps of each in turn, counted with a cycle's own
    counter.
    """
    source, left = 0, 3
    for _ in range(2, step):
        left -= 1
        if left == 0:
            source, left = 1 - source, 3
    return source


@pytest.mark.parametrize("seed", [0, 9])
def test_every_step_is_of_one_source_and_cycles_alternate(seed: int) -> None:
    drawn = [CYCLES.source_at(position, seed)[0] for position in range(4 * 40)]
    assert drawn == [source_of_step(step) for step in range(40) for _ in range(4)]


def test_default_cycle_is_six_steps_from_the_start() -> None:
    mix = CycleMix(samples_per_step=1)
    assert [mix.source_at(step, 0)[0] for step in range(18)] == [0] * 6 + [1] * 6 + [0] * 6


def test_draws_of_each_source_are_counted_without_gaps_across_the_start() -> None:
    draws = [CYCLES.source_at(position, 1) for position in range(200)]
    for source in (0, 1):
        assert [draw for drawn, draw in draws if drawn == source] == list(
            range(sum(d == source for d, _ in draws))
        )


def test_step_far_into_a_run_costs_no_replay() -> None:
    cycle = 10**12
    position = (2 + 3 * cycle) * 4
    assert CYCLES.source_at(position, 0) == (0, 8 + 12 * cycle // 2)
    assert CYCLES.source_at(position + 12, 0) == (1, 12 * cycle // 2)


def drawn_keys(
    sources: dict[str, str], ranks: int, workers: int, first: int, last: int
) -> dict[int, str]:
    """Return position -> key of the positions `[first, last)` through the real loaders of every
    rank.
    """
    found: dict[int, str] = {}
    batch_size = 4 // ranks
    for rank in range(ranks):
        data = ShardData(
            sources,
            batch_size=batch_size,
            num_workers=workers,
            size_px=16,
            source_mix=CYCLES,
            seed=5,
        )
        data.load_state_dict({"samples_seen": first})
        loader = data.train_dataloader()
        loader.batch_sampler.rank, loader.batch_sampler.world = rank, ranks
        for batch in itertools.islice(loader, (last - first) // 4):
            found |= dict(zip(batch.index.tolist(), batch.key, strict=True))
    return found


def test_order_is_the_same_for_every_shape_and_after_a_resume(two_sources: dict[str, str]) -> None:
    uninterrupted = drawn_keys(two_sources, ranks=1, workers=0, first=0, last=32)
    assert [uninterrupted[position][:4] for position in range(32)] == [
        ("real", "made")[source_of_step(step)] for step in range(8) for _ in range(4)
    ]
    assert drawn_keys(two_sources, ranks=2, workers=2, first=0, last=32) == uninterrupted
    parts = drawn_keys(two_sources, 2, 0, 0, 12) | drawn_keys(
        two_sources, 1, 2, 12, 32
    )  # stopped within a cycle
    assert parts == uninterrupted


def test_samples_of_a_source_are_each_drawn_once_an_epoch(two_sources: dict[str, str]) -> None:
    data = ShardData(two_sources, source_mix=CYCLES, size_px=16)
    data.setup()
    samples = TrainSamples(
        [data._readers[f"data.train.{tag}"] for tag in two_sources], CYCLES, 0, 16, 0.0
    )
    numbers = [samples.locate(position) for position in range(400)]
    second_draws = [number for source, number in numbers if source == 1]
    assert sorted(second_draws[:14]) == sorted(second_draws[14:28]) == list(range(14))


def test_steps_are_of_the_run_s_own_batch_unless_the_mix_says_another() -> None:
    assert CycleMix().for_steps_of(8).samples_per_step == 8
    assert CYCLES.for_steps_of(8) is CYCLES


@pytest.mark.parametrize(
    "wrong", [{"samples_per_step": 0}, {"steps_per_cycle": 0}, {"start_step": -1}]
)
def test_wrong_cycle_is_named(wrong: dict[str, int]) -> None:
    with pytest.raises(
        UserError, match=rf"^data\.source_mix\.{next(iter(wrong))}: it must be at least"
    ):
        CycleMix(**wrong)


def test_experiment_file_names_the_mix_by_its_class() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ShardData, "data")
    mixes: list[tuple[str, dict[str, float], type[SourceMix]]] = [
        ("CycleMix", {"steps_per_cycle": 4}, CycleMix),
        ("ShareRamp", {"start_share": 0.5, "samples_per_step": 2}, ShareRamp),
    ]
    for name, options, kind in mixes:
        mix = {"class_path": f"dofsuite.data.{name}", "init_args": options}
        init_args = {"train": {"a": "a"}, "source_mix": mix}
        parsed = parser.parse_object(
            {"data": {"class_path": "dofsuite.data.ShardData", "init_args": init_args}}
        )
        assert parser.instantiate(parsed).data.source_mix == kind(**options)


def test_a_run_may_begin_with_both_sources_in_turn() -> None:
    mix = CycleMix(samples_per_step=2, steps_per_cycle=2, start_step=7, interleave_steps=5)
    drawn = [mix.source_at(position, 0)[0] for position in range(2 * 13)]
    assert drawn[::2] == drawn[1::2] == [0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0]
    draws = [
        draw
        for source, draw in (mix.source_at(position, 0) for position in range(26))
        if source == 1
    ]
    assert draws == list(range(len(draws)))


def test_a_mixed_beginning_that_outlasts_the_start_is_refused() -> None:
    with pytest.raises(UserError, match="interleave_steps"):
        CycleMix(start_step=3, interleave_steps=4)
