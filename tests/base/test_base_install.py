"""The base install, in an environment of its own that `make test` sets up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_optics_and_metrics_work_with_the_base_install_alone(tmp_path: Path) -> None:
    configured = os.environ.get("DOFSUITE_BASE_PYTHON")
    python = ROOT / (configured or ".venv-base/bin/python")
    if not python.exists():
        # Under `make test` it must be there; a bare pytest may go without.
        (pytest.fail if configured else pytest.skip)(
            f"{python} is missing: `make setup-base` makes it."
        )
    script = Path(__file__).with_name("base_install.py")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "base install: ok"), done.stderr
