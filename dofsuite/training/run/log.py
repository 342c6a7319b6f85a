"""The run log: one JSON object a step in `metrics.jsonl`, continued where a resumed run continues.

Lightning's CSV logger deletes the earlier rows on resume; this one drops only the rows beyond the
resumed step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dofsuite.files import as_user_error, make_folder, write_text


class RunLog(Logger):
    """Append rows `{"step": int, name: float, …}` to `<folder>/metrics.jsonl`, one row a step.

    What is logged at one step in several calls (training, then validation) is one row. `step`
    counts completed optimiser steps. Rows reach the file at once, so a killed run keeps its log.
    Hyperparameters are not logged: a run's record is its `config.yaml`.
    """

    def __init__(
        self, folder: str | Path, completed_steps: Callable[[], int] | None = None
    ) -> None:
        """Log to `folder`.

        Args:
            folder: The run folder.
            completed_steps: Gives the steps done so far. Lightning hands loggers its batch counter,
                which is one behind (step 99 for what was logged after the hundredth step); without
                this function that number is kept.
        """
        super().__init__()
        self.path = Path(folder) / "metrics.jsonl"
        self.completed_steps = completed_steps
        self._row: dict[str, Any] = {}
        self._row_begin = 0

    @property
    def name(self) -> str:
        """Empty: the rows lie directly in the run folder."""
        return ""

    @property
    def version(self) -> str:
        """Empty: a run has one log, not one a start."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return self.save_dir

    @property
    def root_dir(self) -> str:
        """The run folder."""
        return self.save_dir

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Continue the log after `step`: drop the rows beyond it, and a last line that a crash cut short."""
        if not self.path.is_file():
            return
        rows = [row for row in read_rows(self.path) if row["step"] <= step]
        lines = [json.dumps(row) + "\n" for row in rows]
        write_text(self.path, "".join(lines))
        if rows:
            self._row, self._row_begin = rows[-1], sum(map(len, lines[:-1]))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add `metrics` to the row of this step."""
        step = self.completed_steps() if self.completed_steps else int(step or 0)
        make_folder(self.path.parent)
        with (
            as_user_error(self.path),
            open(self.path, "r+b" if self.path.exists() else "w+b") as file,
        ):
            if self._row.get("step") != step:
                self._row, self._row_begin = {"step": step}, file.seek(0, 2)
            self._row.update(
                {
                    key: _plain(value)
                    for key, value in metrics.items()
                    if key not in ("step", "epoch")
                }
            )
            file.seek(self._row_begin)
            file.write(json.dumps(self._row).encode() + b"\n")

    @rank_zero_only
    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's record is its `config.yaml`."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, in order, without a last line that a crash cut short."""
    rows = (_parse(line) for line in path.read_text().splitlines())
    return [row for row in rows if row is not None]


def _parse(line: str) -> dict[str, Any] | None:
    """The row of a line, or None where the line was cut short."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _plain(value: Any) -> float | int | str:
    """A number as JSON can hold it (NaN and infinities as text, so that every line stays valid JSON)."""
    number = value.item() if hasattr(value, "item") else value
    return number if math.isfinite(number) else str(number)
