"""Which checkpoint a run continues from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dofsuite.errors import UserError
from dofsuite.training import AtomicCheckpointIO
from dofsuite.training.checkpoints.resume import (
    checkpoint_path,
    choose_start,
    damage_of,
    newest_checkpoint,
)


def save(folder: Path, step: int, **more: object) -> Path:
    path = checkpoint_path(folder, step)
    state = {
        "state_dict": {"w": torch.arange(1000.0)},
        "optimizer_states": [],
        "loops": {},
        "global_step": step,
    }
    AtomicCheckpointIO().save_checkpoint({**state, **more}, path)
    return path


def test_a_run_that_saved_nothing_starts_from_nothing(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None


def test_the_newest_is_the_one_of_the_largest_step(tmp_path: Path) -> None:
    save(tmp_path, 900)
    newest = save(tmp_path, 10_000)
    save(tmp_path, 1000)
    assert newest_checkpoint(tmp_path) == newest


def test_every_kind_of_damage_is_passed_over_and_said(tmp_path: Path) -> None:
    good = save(tmp_path, 1)
    flipped = save(tmp_path, 2)
    content = bytearray(flipped.read_bytes())
    at = content.find(torch.arange(1000.0).numpy().tobytes()[:64])
    content[at + 8] ^= 1  # one bit of a weight: only a checksum can tell
    flipped.write_bytes(content)
    cut = save(tmp_path, 3)
    cut.write_bytes(cut.read_bytes()[:-10])
    empty = save(tmp_path, 4)
    empty.write_bytes(b"")
    other = checkpoint_path(tmp_path, 5)
    torch.save({"weights": torch.ones(1)}, other)
    said: list[str] = []
    assert newest_checkpoint(tmp_path, said.append) == good
    assert [line.split(":")[0] for line in said] == [
        str(path) for path in (other, empty, cut, flipped)
    ]
    assert not flipped.exists()
    assert flipped.with_name(flipped.name + ".damaged").exists()


def test_only_damaged_checkpoints_are_not_a_fresh_start(tmp_path: Path) -> None:
    save(tmp_path, 1).write_bytes(b"")
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        newest_checkpoint(tmp_path, lambda line: None)


def test_a_runs_own_checkpoint_comes_before_the_one_it_continues(tmp_path: Path) -> None:
    earlier, own = save(tmp_path / "earlier", 30), tmp_path / "own"
    assert choose_start(own, str(tmp_path / "earlier")) == (earlier, True)
    first = save(own, 35)
    assert choose_start(own, str(tmp_path / "earlier")) == (first, False)


@pytest.mark.parametrize(
    ("make", "reason"), [(False, "no such run folder"), (True, "saved no checkpoint")]
)
def test_a_run_to_continue_must_be_there(tmp_path: Path, make: bool, reason: str) -> None:
    if make:
        (tmp_path / "earlier").mkdir()
    with pytest.raises(UserError, match=reason):
        choose_start(tmp_path / "own", str(tmp_path / "earlier"))


def test_any_damage_of_a_checkpoint_is_a_reason_and_never_a_traceback(tmp_path: Path) -> None:
    """A byte changed, zeros, cuts: 300 places of the file, its directory and its ends included."""
    whole = tmp_path / "whole.ckpt"
    state = {"state_dict": {"weight": torch.arange(64.0)}, "optimizer_states": [], "loops": {}}
    AtomicCheckpointIO().save_checkpoint({**state, "global_step": 1}, whole)
    data = whole.read_bytes()
    assert damage_of(whole) is None
    damaged = tmp_path / "damaged.ckpt"
    for place in range(0, len(data), max(1, len(data) // 300)):
        changed = bytes([data[place] ^ 0xFF])
        damaged.write_bytes(data[:place] + changed + data[place + 1 :])
        if damage_of(damaged) is None:  # a byte that says nothing, such as a date
            read = AtomicCheckpointIO().load_checkpoint(damaged)
            assert torch.equal(read["state_dict"]["weight"], torch.arange(64.0))
    for text in (b"", b"PK", data[:200], data[200:], data + data, bytes(len(data)), b"[" * 99):
        damaged.write_bytes(text)
        assert text == data + data or damage_of(damaged) is not None
