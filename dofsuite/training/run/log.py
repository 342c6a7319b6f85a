"""The run log: one JSON object per step in `metrics.jsonl`.

Lightning's CSV logger deletes all earlier rows on resume; this one only drops the rows beyond the
resumed step.
"""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dofsuite.files import as_user_error, make_folder, parse_json, write_text


def logs_this_step(trainer: Any) -> bool:
    """Whether Lightning logs the optimizer step that is being made."""
    logged: bool = trainer._logger_connector.should_update_logs
    return logged


def write_row_now(trainer: Any) -> None:
    """Write this step's row of the run log; Lightning does after all hooks of the step's end.

    What is saved in such a hook is resumed from behind the step, and the row would be missing.
    """
    if logs_this_step(trainer) and (metrics := trainer._logger_connector.metrics["log"]):
        for logger in trainer.loggers:
            if isinstance(logger, RunLog):
                logger.log_metrics(metrics)


class RunLog(Logger):
    """Append rows `{"step": int, name: float, …}` to `<folder>/metrics.jsonl`, one per step.

    Several calls at one step (training, then validation) share a row. `step` counts completed
    optimizer steps. Rows are written at once, so a killed run keeps its log. Hyperparameters are
    not logged: `config.yaml` is the run's record.
    """

    def __init__(
        self, folder: str | Path, completed_steps: Callable[[], int] | None = None
    ) -> None:
        """Log to `folder`.

        Args:
            folder: The run folder.
            completed_steps: Returns the optimizer steps done so far. Without it, rows have
                Lightning's step, which is one behind (99 after the hundredth step).
        """
        super().__init__()
        self.path = Path(folder) / "metrics.jsonl"
        self.completed_steps = completed_steps
        self._row: dict[str, Any] = {}
        self._row_begin = 0

    @property
    def name(self) -> str:
        # Empty: the log lies directly in the run folder.
        return ""

    @property
    def version(self) -> str:
        # Empty: a run has one log over all its starts.
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    log_dir = root_dir = save_dir

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Continue after `step`: drop the rows beyond it and a line truncated by a crash."""
        if not self.path.is_file():
            return
        rows = [row for row in read_rows(self.path) if row["step"] <= step]
        lines = [json.dumps(row) + "\n" for row in rows]
        write_text(self.path, "".join(lines))
        if rows:
            self._row, self._row_begin = rows[-1], sum(map(len, lines[:-1]))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        # Completed optimizer steps, where the trainer can tell them.
        step = self.completed_steps() if self.completed_steps else int(step or 0)
        added = {k: _plain(value) for k, value in metrics.items() if k not in ("step", "epoch")}
        make_folder(self.path.parent)
        mode = "r+b" if self.path.exists() else "w+b"
        # A new step begins a row at the end of the file; the current step's row is rewritten.
        with as_user_error(self.path), open(self.path, mode) as file:
            if self._row.get("step") != step:
                self._row, self._row_begin = {"step": step}, file.seek(0, 2)
            self._row.update(added)
            file.seek(self._row_begin)
            file.write(json.dumps(self._row).encode() + b"\n")

    @rank_zero_only
    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Log nothing: the run's record is its `config.yaml`."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a `metrics.jsonl`, without a last line that a crash cut short."""
    rows = []
    for line in path.read_text().splitlines():
        with suppress(ValueError):
            row = parse_json(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows


# A number as JSON has it: NaN and infinities become text.
def _plain(value: Any) -> float | int | str:
    number = value.item() if hasattr(value, "item") else value
    return number if math.isfinite(number) else str(number)
