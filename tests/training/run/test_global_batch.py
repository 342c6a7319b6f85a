"""A step's samples may be dealt out otherwise, and never become another number."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dofsuite.files import write_json, write_text
from dofsuite.training.run.global_batch import samples_per_step
from dofsuite.training.run.record import differing_step

TRAINER = {"devices": 8, "num_nodes": 1, "accumulate_grad_batches": 8, "accelerator": "gpu"}


def config(batch_size: int = 4, **trainer: object) -> dict[str, object]:
    return {"trainer": {**TRAINER, **trainer}, "data": {"init_args": {"batch_size": batch_size}}}


def run_of(folder: Path, devices_then: int = 8) -> Path:
    """The record of a run of 8 devices x 4 x 8 accumulated = 256 samples a step."""
    write_text(folder / "config.yaml", yaml.safe_dump(config()))
    write_json(folder / "versions.json", [{"num_devices": devices_then}])
    return folder


@pytest.mark.parametrize(
    ("batch_size", "trainer"),
    [
        (4, {"devices": 4, "accumulate_grad_batches": 16}),
        (8, {"devices": 4}),
        (4, {"num_nodes": 2, "accumulate_grad_batches": 4}),
        (4, {"devices": [0, 1, 2, 3, 4, 5, 6, 7]}),
        (4, {"devices": "0,1", "accumulate_grad_batches": 32}),
    ],
)
def test_the_same_product_is_the_same_run(
    tmp_path: Path, batch_size: int, trainer: dict[str, object]
) -> None:
    assert differing_step(config(), config(batch_size, **trainer), run_of(tmp_path)) is None


@pytest.mark.parametrize(
    ("batch_size", "trainer", "key", "mend"),
    [
        (4, {"devices": 4}, "trainer.devices", "set trainer.accumulate_grad_batches to 16"),
        (2, {}, "data.init_args.batch_size", "set trainer.accumulate_grad_batches to 16"),
        (4, {"num_nodes": 4}, "trainer.num_nodes", "set trainer.accumulate_grad_batches to 2"),
        (4, {"devices": 3}, "trainer.devices", "whose product is 256"),
        (4, {"accumulate_grad_batches": 1}, "trainer.accumulate_grad_batches", "batches to 8"),
    ],
)
def test_another_product_is_refused_with_the_number_to_set(
    tmp_path: Path, batch_size: int, trainer: dict[str, object], key: str, mend: str
) -> None:
    named, reason = differing_step(config(), config(batch_size, **trainer), run_of(tmp_path))
    assert named == key
    assert f"the run in {tmp_path} was begun with 256 samples a step and this makes" in reason
    assert mend in reason
    if mend.startswith("set"):
        set_to = config(batch_size, **{**trainer, "accumulate_grad_batches": int(mend.split()[-1])})
        assert differing_step(config(), set_to, run_of(tmp_path)) is None


def test_all_devices_are_as_many_as_the_machine_had_and_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = config(devices="auto")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert differing_step(every, every, run_of(tmp_path, devices_then=4)) is None
    _, reason = differing_step(every, every, run_of(tmp_path, devices_then=8))
    assert (
        "256 samples a step and this makes 128; set trainer.accumulate_grad_batches to 16" in reason
    )
    assert (
        samples_per_step({"trainer.devices": "auto", "trainer.accelerator": "cpu"}, available=8)
        == 1
    )


def test_a_module_that_takes_its_batch_apart_is_given_a_larger_one(tmp_path: Path) -> None:
    parts = {"model": {"init_args": {"training": {"micro_batches": 2}}}}
    stored, now = ({**config(1, devices=n, accumulate_grad_batches=1), **parts} for n in (16, 8))
    _, reason = differing_step(stored, now, run_of(tmp_path))
    assert "set data.batch_size to 2, or name another folder" in reason
