"""The order of samples is a function of (seed, position): no rank, worker or past run is in it."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from dofsuite.data.module import ShardData
from dofsuite.data.sampler import (
    PositionBatches,
    SourceOrder,
    hash_of,
    permutation,
)
from dofsuite.data.source_mix import ShareRamp
from dofsuite.errors import UserError

SHAPES = [(ranks, workers) for ranks in (1, 2) for workers in (0, 2)]


def keys_by_position(
    two_sources: dict[str, str], ranks: int, workers: int, batches: int
) -> dict[int, str]:
    """Return position -> key of the first batches of every rank, read through real loaders."""
    mix = ShareRamp(until_step=2, full_step=5, samples_per_step=8)
    found: dict[int, str] = {}
    for rank in range(ranks):
        data = ShardData(
            two_sources, batch_size=4, num_workers=workers, size_px=16, flip=0.0, source_mix=mix
        )
        loader = data.train_dataloader()
        loader.batch_sampler.rank, loader.batch_sampler.world = rank, ranks
        for batch in itertools.islice(loader, batches // ranks):
            found |= dict(zip(batch.index.tolist(), batch.key, strict=True))
    return found


def test_order_is_the_same_for_every_number_of_ranks_and_workers(
    two_sources: dict[str, str],
) -> None:
    orders = [keys_by_position(two_sources, *shape, batches=8) for shape in SHAPES]
    assert sorted(orders[0]) == list(range(32))
    assert all(order == orders[0] for order in orders)


def test_every_epoch_of_a_source_visits_each_sample_once_in_another_order() -> None:
    order = SourceOrder([5, 5, 5, 5, 3], seed=7, source=0, group_shards=2)
    epochs = [[order[epoch * 23 + place] for place in range(23)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_neighbours_in_the_order_come_from_one_group_of_shards() -> None:
    order = SourceOrder([10] * 12, seed=1, source=0, group_shards=3)
    for group in range(4):
        assert len({order[group * 30 + place] // 10 for place in range(30)}) == 3


def test_seed_and_source_change_the_order() -> None:
    orders = [SourceOrder([40], seed, source) for seed, source in ((0, 0), (1, 0), (0, 1))]
    drawn = [[order[place] for place in range(40)] for order in orders]
    assert drawn[0] != drawn[1]
    assert drawn[0] != drawn[2]


def test_hash_is_splitmix64_as_published() -> None:
    # First outputs of the reference splitmix64.c for the state 1234567.
    assert hash_of(1234567) == 6457827717110365317
    assert hash_of((1234567 + 0x9E3779B97F4A7C15) % 2**64) == 3203168211198807973


def test_permutations_are_uniform() -> None:
    counts = Counter(tuple(permutation(3, seed, 5).tolist()) for seed in range(6000))
    assert len(counts) == 6
    # Five degrees of freedom: chi squared above 20.5 has a probability of 0.1 %.
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 20.5


@pytest.mark.parametrize("samples_per_step", [1, 7, 256])
def test_closed_form_of_the_share_is_the_sum_of_its_shares(samples_per_step: int) -> None:
    mix = ShareRamp(until_step=10, full_step=25, samples_per_step=samples_per_step)
    total, phase = Fraction(0), None
    for position in range(40 * samples_per_step):
        before = mix.num_second_before(position, seed=3)
        phase = phase if phase is not None else before
        assert abs(before - total) < 1
        total += Fraction(mix.share(position // samples_per_step))


def test_default_share_is_the_paper_s() -> None:
    mix = ShareRamp(samples_per_step=256)
    assert [mix.share(step) for step in (0, 999, 1000, 1750, 2500, 3599)] == [
        0.5,
        0.5,
        0.5,
        0.75,
        1.0,
        1.0,
    ]
    drawn = (
        mix.num_second_before(1000 * 256, seed=0),
        mix.num_second_before(2500 * 256, seed=0),
    )
    assert drawn[0] in (128000, 128001)
    # Half of the first 1000 steps, then the mean of the ramp: (0.5 + 1 - 0.5/1500) / 2 of 1500
    # steps.
    assert abs(drawn[1] - drawn[0] - 256 * 1500 * (1.5 - 0.5 / 1500) / 2) <= 1
    assert mix.num_second_before(3600 * 256, 0) - drawn[1] == 1100 * 256


def test_draws_of_each_source_are_counted_without_gaps() -> None:
    mix = ShareRamp(until_step=3, full_step=9, samples_per_step=5)
    draws = [mix.source_at(position, 11) for position in range(80)]
    for source in (0, 1):
        assert [draw for drawn, draw in draws if drawn == source] == list(
            range(sum(d == source for d, _ in draws))
        )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_constant_share_is_kept_to_one_sample(share: float) -> None:
    mix = ShareRamp(start_share=share, end_share=share, samples_per_step=256)
    sources = np.array([mix.source_at(position, 5)[0] for position in range(2000)])
    assert np.abs(np.cumsum(sources) - share * np.arange(1, 2001)).max() <= 1.01


def test_position_far_into_a_run_costs_no_replay() -> None:
    order = SourceOrder([256] * 40, seed=0, source=0)
    position = 10**12 + 12345
    assert order[position] == SourceOrder([256] * 40, seed=0, source=0)[position]
    assert ShareRamp(samples_per_step=256).source_at(position, 0)[0] == 1


def test_batches_of_all_ranks_tile_the_global_batches() -> None:
    samplers = [PositionBatches(3, 4, lambda: 100, rank, 2) for rank in (0, 1)]
    positions = [p for pair in zip(*samplers, strict=True) for batch in pair for p in batch]
    assert positions == list(range(100, 124))
    assert len(samplers[0]) == 4


def test_length_is_a_whole_epoch_wherever_the_run_stands(two_sources: dict[str, str]) -> None:
    data = ShardData(two_sources, batch_size=4, size_px=16, flip=0.0)
    data.load_state_dict({"samples_seen": 21})
    loader = data.train_dataloader()
    assert len(loader) == 10
    assert next(iter(loader)).index.tolist() == [21, 22, 23, 24]


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_share": 1.5},
        {"until_step": 5, "full_step": 5},
        {"samples_per_step": 0},
        {"until_step": -1},
    ],
)
def test_wrong_share_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"^data\.source_mix"):
        ShareRamp(**wrong)
