"""Backward simulation on two gloo ranks: one step index, samples of their own. Few imports: each
rank pays for them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import distributed

from dofsuite.text2image.dmd2.sampling import backward_simulation, fresh_noise, step_index
from tests.text2image.recorder import ALPHAS, SHAPE, Recorder


def simulate_on_a_rank(rank: int, folder: Path) -> None:
    """Twelve training steps on the rank's own samples."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    steps, samples = [], []
    for step in range(12):
        k, generator = step_index(5, step), Recorder()
        samples.append(
            backward_simulation(
                generator, fresh_noise(SHAPE, 5, [2 * step + rank], "x"), k, ALPHAS
            ).detach()
        )
        steps.append(len(generator.calls) - 1)
    gathered = [torch.empty(12, dtype=torch.long) for _ in range(2)]
    distributed.all_gather(gathered, torch.tensor(steps))
    torch.save((gathered, samples), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_ranks_run_the_same_step_and_make_the_samples_of_one(tmp_path):
    torch.multiprocessing.spawn(simulate_on_a_rank, (tmp_path,), nprocs=2)
    (gathered, first), (_, second) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(gathered[0], gathered[1])
    assert set(gathered[0].tolist()) == {0, 1, 2, 3}
    for step in range(12):
        draw = fresh_noise(SHAPE, 5, [2 * step, 2 * step + 1], "x")
        expected = backward_simulation(Recorder(), draw, int(gathered[0][step]), ALPHAS)
        torch.testing.assert_close(torch.cat([first[step], second[step]]), expected.detach())
