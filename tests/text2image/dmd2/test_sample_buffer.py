"""The sample between two steps: split, joined, gathered from all ranks and sharded to others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed

from dofsuite.data.sampler import PositionBatches
from dofsuite.errors import UserError
from dofsuite.text2image.dmd2.sample_buffer import Conditioning, GeneratedSample, split_batch
from tests.text2image.tiny import tiny_batch

BATCH = 2


def sample_of(positions) -> GeneratedSample:
    """A sample for every position, which says where it is from."""
    numbers = torch.tensor([float(position) for position in positions])
    cond = Conditioning(
        [f"caption {position}" for position in positions],
        numbers + 0.1,
        numbers + 0.2,
        numbers + 0.3,
        numbers + 0.4,
        numbers[:, None, None].half(),
        numbers[:, None].half(),
    )
    return GeneratedSample(numbers[:, None, None, None].expand(-1, 2, 3, 3).clone(), cond)


def assert_same(one: GeneratedSample, other: GeneratedSample) -> None:
    assert torch.equal(one.latent, other.latent)
    assert one.cond.caption == other.cond.caption
    for field in one.cond._fields[1:]:
        found, expected = getattr(one.cond, field), getattr(other.cond, field)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def positions_of(rank: int, world_size: int, batch: int) -> list[int]:
    """Positions of a rank's first batch, as the data module shards them."""
    return next(iter(PositionBatches(batch, 1, lambda: 0, rank, world_size)))


def save_on_a_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(sample_of(positions_of(rank, 2, BATCH)).state(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_ranks_gather_what_one_would_have_and_shard_it_as_the_data_module(
    tmp_path,
):
    # Forked, so that nothing is imported twice; the ranks only copy and send, which needs none of
    # the parent's threads.
    torch.multiprocessing.start_processes(
        save_on_a_rank, (tmp_path,), nprocs=2, start_method="fork"
    )
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    full = sample_of(range(2 * BATCH))
    for state in states:
        assert_same(GeneratedSample.from_state(state, 0, 1), full)
    for world_size in (1, 2, 4):
        for rank in range(world_size):
            expected = sample_of(positions_of(rank, world_size, 2 * BATCH // world_size))
            assert_same(GeneratedSample.from_state(states[0], rank, world_size), expected)


def test_parts_pair_with_the_parts_of_the_batch_and_join_again():
    batch = tiny_batch(batch_size=4)
    sample = GeneratedSample(batch.image_srgb, Conditioning.of(batch))
    parts = sample.split(2)
    for part, of_batch in zip(parts, split_batch(batch, 2), strict=True):
        assert_same(part, GeneratedSample(of_batch.image_srgb, Conditioning.of(of_batch)))
    assert [part.key for part in split_batch(batch, 2)] == [batch.key[:2], batch.key[2:]]
    assert_same(GeneratedSample.joined(parts), sample)


def test_a_batch_that_does_not_divide_is_an_error_that_names_the_key():
    with pytest.raises(UserError, match=r"model\.training\.micro_batches: 3 parts"):
        split_batch(tiny_batch(), 3)
