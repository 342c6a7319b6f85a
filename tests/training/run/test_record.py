"""What a run folder says about its run, and when it is another run's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dofsuite.errors import UserError
from dofsuite.training.run.folder import locked
from dofsuite.training.run.record import differing_key, write_record
from dofsuite.training.run.threads import usable_cores

CONFIG = {
    "trainer": {"max_steps": 10, "devices": 1},
    "model": {"class_path": "a.B", "init_args": {"lr": 1e-7}},
}


def changed(path: str, value: object) -> dict[str, object]:
    config = json.loads(json.dumps(CONFIG))
    *parents, last = path.split(".")
    node = config
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("trainer.max_steps", 20, None),
        ("trainer.log_every_n_steps", 5, None),
        ("trainer.devices", 8, None),
        ("trainer.strategy", {"class_path": "a.Strategy"}, None),
        ("model.init_args.lr", 1e-3, ("model.init_args.lr", 1e-7, 1e-3)),
        ("model.class_path", "a.C", ("model.class_path", "a.B", "a.C")),
        ("data.init_args.seed", 1, ("data.init_args.seed", None, 1)),
    ],
)
def test_only_length_logging_and_shape_of_the_machine_may_change(
    path: str, value: object, expected: object
) -> None:
    now = changed(path, value)
    assert differing_key(CONFIG, now, given=now) == expected


def test_another_class_is_named_before_its_arguments() -> None:
    now = changed("model", {"class_path": "a.C", "init_args": {"beta": 3}})
    assert differing_key(CONFIG, now, given=now)[0] == "model.class_path"


def test_a_default_that_newer_code_added_is_no_difference() -> None:
    now = changed("model.init_args.added_later", True)
    assert differing_key(CONFIG, now, given=CONFIG) is None
    assert differing_key(CONFIG, now, given=now)[0] == "model.init_args.added_later"


def test_the_record_is_readable_and_counts_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    write_record(tmp_path, CONFIG, ["x.yaml", "--model.name", "two words"], said.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    write_record(tmp_path, CONFIG, ["x.yaml"], said.append)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == CONFIG
    commands = (tmp_path / "command.txt").read_text().splitlines()
    assert commands[0].endswith("python -m dofsuite.fit x.yaml --model.name 'two words'")
    assert len(commands) == 2
    starts = json.loads((tmp_path / "versions.json").read_text())
    assert starts[0]["torch"] == torch.__version__
    assert starts[0]["packages"]["numpy"] == np.__version__
    assert [start["torch_threads"] for start in starts][1] == 99
    assert len(said) == 1
    assert "99 CPU threads" in said[0]


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from dofsuite.training.run.folder import locked\n"
        "with locked(__import__('pathlib').Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on"), locked(tmp_path):
            pass
    finally:
        holder.communicate("")
    with locked(tmp_path):  # free again once its holder has gone
        pass


def test_a_refused_start_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError), locked(tmp_path / "runs" / "new"):
        raise UserError("refused")
    assert not (tmp_path / "runs" / "new").exists()


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_containers_quota_bounds_the_threads(
    tmp_path: Path, text: str, cores: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    unbounded = usable_cores(tmp_path / "absent")
    assert usable_cores(tmp_path / "cpu.max") == (unbounded if cores is None else cores)
