"""A file under its final name is whole, and what was there before survives every failed write."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dofsuite.errors import UserError
from dofsuite.files import replace_folder, write_atomic, write_json
from dofsuite.training import AtomicCheckpointIO


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A disk that is full after `size` bytes: the kernel refuses the write, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_save_names_the_file_and_keeps_the_previous_one(tmp_path: Path) -> None:
    checkpoint_io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    checkpoint_io.save_checkpoint({"weights": torch.ones(10)}, path)
    with files_no_larger_than(1 << 20), pytest.raises(UserError, match=str(path)):
        checkpoint_io.save_checkpoint({"weights": torch.ones(1 << 20)}, path)
    assert checkpoint_io.load_checkpoint(path)["weights"].equal(torch.ones(10))
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def write_half(file: object) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "file", write_half)
    assert os.listdir(tmp_path) == []


def test_two_writers_of_one_process_number_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    """As in two containers, where process numbers repeat: one writes the whole file while the other
    is at it.
    """

    def write_slowly(file: object) -> None:
        file.write(b"slow, ")
        write_atomic(tmp_path / "file", lambda other: other.write(b"quick") and None)
        assert (tmp_path / "file").read_bytes() == b"quick"
        file.write(b"and whole")

    write_atomic(tmp_path / "file", write_slowly)
    assert (tmp_path / "file").read_bytes() == b"slow, and whole"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_in_the_way_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="a file lies where a folder is needed"):
        write_json(tmp_path / "runs" / "x" / "metrics.json", {})


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (errno.ENOSPC, UserError),
        (errno.EROFS, UserError),
        (errno.ENOENT, UserError),
        (errno.EACCES, UserError),
        (errno.EIO, OSError),
    ],
)
def test_what_a_user_can_mend_is_said_and_the_rest_keeps_its_traceback(
    tmp_path: Path, number: int, raised: type[Exception]
) -> None:
    def write(file: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(raised) as caught:
        write_atomic(tmp_path / "file", write)
    assert caught.type is raised
    assert os.listdir(tmp_path) == []


def test_json_is_read_back_as_it_was(tmp_path: Path) -> None:
    data = {"lv_corr": 0.25, "levels": [3, 6], "note": "ünïcode", "none": None}
    write_json(tmp_path / "new" / "metrics.json", data)
    assert json.loads((tmp_path / "new" / "metrics.json").read_text()) == data


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "export"
    replace_folder(target, lambda folder: (folder / "first").write_text("1") and None)
    replace_folder(target, lambda folder: (folder / "second").write_text("2") and None)
    assert os.listdir(target) == ["second"]

    def fail(folder: Path) -> None:
        (folder / "third").write_text("3")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replace_folder(target, fail)
    assert os.listdir(target) == ["second"]
    assert os.listdir(tmp_path) == ["export"]


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "payload-ran"),))

    torch.save({"state_dict": Payload()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="something else than tensors"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "payload-ran").exists()


@pytest.mark.parametrize("kept_bytes", [0, 1, 100, 2000])
def test_a_truncated_checkpoint_is_named(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "cut.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weights": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match=r"cut\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(path)
