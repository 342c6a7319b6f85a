"""Imports go downward only, and a light name stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("pytorch_lightning", "diffusers", "transformers", "peft", "webdataset", "jsonargparse")


def loaded_by(statement: str, without: str = "") -> set[str]:
    """The modules that `statement` loads beyond those of `without`, in a Python of its own."""
    program = (
        f"import sys, json\n{without}\nbefore = set(sys.modules)\n{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_package_itself_imports_nothing() -> None:
    assert loaded_by("import dofsuite") == {"dofsuite"}


def test_an_answer_without_a_run_loads_no_torch() -> None:
    assert "torch" not in loaded_by("from dofsuite.fit import main; main(['--help'])")


@pytest.mark.parametrize("room", ["optics", "metrics", "data", "training", "refocus", "backbones"])
def test_a_rooms_name_alone_loads_nothing_heavy(room: str) -> None:
    if not (ROOT / "dofsuite" / room).is_dir():
        pytest.skip(f"dofsuite.{room} is not built yet")
    loaded = loaded_by(f"import dofsuite.{room}")
    assert [name for name in (*HEAVY, "torch") if name in loaded] == []


@pytest.mark.parametrize("room", ["optics", "metrics"])
def test_optics_and_metrics_themselves_need_no_trainer_and_no_backbone(room: str) -> None:
    if not (ROOT / "dofsuite" / room).is_dir():
        pytest.skip(f"dofsuite.{room} is not built yet")
    every_name = f"import dofsuite.{room} as room\nfor name in room.__all__: getattr(room, name)"
    # What torchmetrics loads where it is installed does not count.
    loaded = loaded_by(every_name, without="import torch, torchmetrics")
    assert [name for name in HEAVY if name in loaded] == []
