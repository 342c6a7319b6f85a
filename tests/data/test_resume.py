"""Stopped anywhere and resumed in another shape, a run trains on the same samples, none lost and
none twice.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pytorch_lightning import Trainer

import dofsuite
from dofsuite.data.dataset import TrainSamples
from dofsuite.data.manifest import read_manifest
from dofsuite.data.module import ShardData
from dofsuite.data.shards import ShardReader
from dofsuite.errors import UserError

PROGRAM = Path(__file__).with_name("tiny_run.py")
EPOCH = 10  # batches of four in 23 + 14 samples

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed",
    "ignore:Trying to infer the `batch_size`",
    "ignore:Total length of `list`",
)


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_run", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def expected(two_sources: dict[str, str], tiny: ModuleType) -> list[tuple[int, str]]:
    """The order as the closed forms have it: (position, key)."""
    readers = [ShardReader(Path(folder)) for folder in two_sources.values()]
    samples = TrainSamples(readers, tiny.SOURCE_MIX, seed=5, size_px=16, flip=0.0)
    located = [(position, *samples.locate(position)) for position in range(200)]
    return [(position, readers[source].read(number).key) for position, source, number in located]


# Within an epoch, its last batch, its end, within and at the end of the second.
@pytest.mark.parametrize("stop", [3, EPOCH - 1, EPOCH, EPOCH + 4, 2 * EPOCH])
@pytest.mark.parametrize(("first_workers", "then_workers"), [(0, 2), (2, 0)])
def test_resumed_run_continues_at_the_next_sample(
    tiny: ModuleType,
    two_sources: dict[str, str],
    expected: list[tuple[int, str]],
    tmp_path: Path,
    stop: int,
    first_workers: int,
    then_workers: int,
) -> None:
    tiny.train(two_sources, tmp_path / "a", steps=stop + 2, workers=first_workers)
    resume = tmp_path / "a" / f"step={stop}.ckpt"
    assert torch.load(resume, weights_only=True)["ShardData"] == {"samples_seen": 4 * stop}
    second = tiny.train(
        two_sources, tmp_path / "b", steps=stop + EPOCH + 3, workers=then_workers, resume=resume
    )
    assert second.trained == expected[4 * stop : 4 * (stop + EPOCH + 3)]


def test_two_resumes_in_one_epoch_with_other_batch_sizes(
    tiny: ModuleType, two_sources: dict[str, str], expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    first = tiny.train(two_sources, tmp_path / "a", steps=2)
    resume = tmp_path / "a" / "step=2.ckpt"
    second = tiny.train(two_sources, tmp_path / "b", steps=4, batch_size=7, resume=resume)
    third = tiny.train(
        two_sources, tmp_path / "c", steps=24, batch_size=3, resume=tmp_path / "b" / "step=4.ckpt"
    )
    trained = first.trained + second.trained + third.trained
    assert len(trained) == 2 * 4 + 2 * 7 + 20 * 3
    assert trained == expected[: len(trained)]


def test_checkpoint_after_a_validation_inside_an_epoch_resumes_exactly(
    tiny: ModuleType, two_sources: dict[str, str], expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    options = {"val": two_sources["made"], "val_check_interval": 3}
    tiny.train(two_sources, tmp_path / "a", steps=8, **options)
    resume = tmp_path / "a" / "step=6.ckpt"
    second = tiny.train(two_sources, tmp_path / "b", steps=15, resume=resume, **options)
    assert second.trained == expected[24:60]


def test_batch_that_an_interruption_broke_off_is_trained_on_after_resuming(
    tiny: ModuleType, two_sources: dict[str, str], expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        tiny.train(two_sources, tmp_path / "a", steps=9, fail_at=5)
    saved = sorted((tmp_path / "a").glob("*.ckpt"), key=os.path.getmtime)[-1]
    assert torch.load(saved, weights_only=True)["ShardData"] == {"samples_seen": 20}
    second = tiny.train(two_sources, tmp_path / "b", steps=12, resume=saved)
    assert second.trained == expected[20:48]


def test_accumulated_batches_count_every_sample(
    tiny: ModuleType, two_sources: dict[str, str], expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    tiny.train(two_sources, tmp_path / "a", steps=3, accumulate=2)
    second = tiny.train(
        two_sources, tmp_path / "b", steps=5, accumulate=2, resume=tmp_path / "a" / "step=2.ckpt"
    )
    assert second.trained == expected[16:40]


@pytest.mark.parametrize(
    ("accumulate", "steps"), [(4, 7), (16, 3)]
)  # ten batches an epoch: 2.5 steps, or not one
def test_every_optimiser_step_sees_all_its_samples_also_at_an_epoch_s_end(
    tiny: ModuleType,
    two_sources: dict[str, str],
    expected: list[tuple[int, str]],
    tmp_path: Path,
    accumulate: int,
    steps: int,
) -> None:
    run = tiny.train(two_sources, tmp_path, steps=steps, accumulate=accumulate)
    assert run.samples_of == dict.fromkeys(range(steps), 4 * accumulate)
    assert run.trained == expected[: 4 * accumulate * steps]


def test_new_fit_of_the_same_data_begins_at_the_first_sample(
    tiny: ModuleType, two_sources: dict[str, str], tmp_path: Path
) -> None:
    data = ShardData(two_sources, batch_size=4, size_px=16, flip=0.0)
    for _ in range(2):
        module = tiny.Recorder()
        tiny.Trainer(
            accelerator="cpu",
            max_steps=3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        ).fit(module, data)
        assert [position for position, _ in module.trained] == list(range(12))


def start_ranks(
    sources: dict[str, str],
    folder: Path,
    ranks: int,
    workers: int,
    steps: int,
    resume: str | None,
    **options: object,
) -> subprocess.CompletedProcess[str]:
    """Run the tiny program on `ranks` gloo processes."""
    folder.mkdir()
    given = {
        "sources": sources,
        "folder": str(folder),
        "ranks": ranks,
        "workers": workers,
        "steps": steps,
    }
    return subprocess.run(
        [sys.executable, str(PROGRAM), json.dumps({**given, "resume": resume, "options": options})],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(dofsuite.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_ranks(
    sources: dict[str, str],
    folder: Path,
    ranks: int,
    workers: int,
    steps: int,
    resume: str | None,
    **options: object,
) -> list:
    """Return what all ranks trained on, by position."""
    run = start_ranks(sources, folder, ranks, workers, steps, resume, **options)
    assert run.returncode == 0, run.stderr[-3000:]
    trained = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(ranks)]
    return sorted((position, key) for rank in trained for position, key in rank)


@pytest.mark.slow
def test_two_gloo_ranks_train_on_the_order_of_one_and_hand_over_to_another_shape(
    tiny: ModuleType,
    two_sources: dict[str, str],
    expected: list[tuple[int, str]],
    tmp_path: Path,
) -> None:
    two = run_ranks(two_sources, tmp_path / "2x2", ranks=2, workers=2, steps=7, resume=None)
    assert two == expected[: 7 * 8]
    resume = tmp_path / "2x2" / "step=3.ckpt"
    one = tiny.train(two_sources, tmp_path / "1x0", steps=12, resume=resume)
    assert one.trained == expected[3 * 8 : 3 * 8 + 9 * 4]
    back = run_ranks(
        two_sources,
        tmp_path / "2x0",
        ranks=2,
        workers=0,
        steps=12,
        resume=str(tmp_path / "1x0" / "step=5.ckpt"),
    )
    assert back == expected[3 * 8 + 2 * 4 :][: 7 * 8]


@pytest.mark.slow  # half a minute on a busy machine
def test_missing_shard_ends_every_rank_with_the_same_sentence(shards: Path, tmp_path: Path) -> None:
    (shards / "shard-000001.tar").unlink()
    run = start_ranks(
        {"n": str(shards)}, tmp_path / "2x0", ranks=2, workers=0, steps=1, resume=None
    )
    assert run.returncode != 0
    said = [
        line for line in run.stderr.splitlines() if "shard-000001.tar: this file is missing" in line
    ]
    assert {line.split(":")[0] for line in said} >= {"[rank0]", "[rank1]"}


def test_fewer_held_out_samples_than_ranks_are_refused(two_sources: dict[str, str]) -> None:
    count = read_manifest(Path(two_sources["made"])).samples
    data = ShardData(two_sources, two_sources["made"])
    for ranks in (count, count + 1):
        data.trainer = Trainer(accelerator="cpu", devices=ranks, strategy="ddp", logger=False)
        with pytest.raises(UserError) if ranks > count else nullcontext() as said:
            data._check("data.val", ShardReader(Path(two_sources["made"])))
    assert str(said.value).endswith(
        "made has 14 held-out samples for 15 devices, and each needs one: hold out more, or use "
        "fewer with trainer.devices."
    )


def test_held_out_samples_are_shared_out_among_ranks(two_sources: dict[str, str]) -> None:
    count = read_manifest(Path(two_sources["made"])).samples
    data = ShardData(two_sources, two_sources["made"], val_batch_size=4, size_px=16)
    batches = list(data.val_dataloader())
    assert [number for batch in batches for number in batch.index.tolist()] == list(range(count))
    assert all((batch.source == -1).all() for batch in batches)
