"""`samples.csv` of a benchmark: what is to be predicted, for a rival to fill in the predictions.

    key,task,reference,target,focus_x,focus_y,focus_disparity,bokeh_level,prediction

Reference and target are files of the benchmark, the focus point is a fraction of width and height
from the top left. `prediction` is empty: whoever has a method writes the name of its picture there,
relative to the CSV, and scores it by `evaluate run --folder NAME=samples.csv`. The manifest stays
what counts: keys that it does not have are refused, the other columns are for reading.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from dofsuite.errors import UserError
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.files import read_bytes, write_text

NAME = "samples.csv"
KEY, PREDICTION = "key", "prediction"
COLUMNS = (
    KEY,
    *("task", "reference", "target", "focus_x", "focus_y", "focus_disparity", "bokeh_level"),
    PREDICTION,
)


def write_samples(folder: Path, samples: Sequence[Sample]) -> None:
    """Write `samples.csv` with empty predictions; one that is there stays: it may be filled in."""
    if (folder / NAME).exists():
        return
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in samples:
        camera = (*each.focus_point, each.focus_disparity, each.bokeh_level)
        numbers = [f"{value:.6g}" for value in camera]
        writer.writerow([each.key, each.task, each.reference, each.target, *numbers, ""])
    write_text(folder / NAME, file.getvalue())


def read_predictions(path: Path, benchmark: Benchmark) -> dict[str, Path]:
    """Return the files of a filled `samples.csv` by sample; empty cells are left out.

    Raises:
        UserError: It is no such CSV, has a key twice or that the benchmark lacks, or a file is
            missing.
    """
    # Rows with both columns
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: --folder: it is no UTF-8 text; save it as CSV again.") from error
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not {KEY, PREDICTION} <= set(rows[0]):
        raise UserError(
            f"{path}: --folder: it lacks the columns {KEY} and {PREDICTION}; fill in the "
            f"benchmark's {NAME}."
        )

    # Files by key
    known = {sample.key for sample in benchmark.samples}
    files: dict[str, Path] = {}
    for number, row in enumerate(rows, 2):
        key, name = (row[KEY] or "").strip(), (row[PREDICTION] or "").strip()
        if not name:
            continue
        if key not in known or key in files:
            reason = "has this key twice" if key in files else "names no sample of the benchmark"
            raise UserError(f"{path}: line {number}: {key!r}: it {reason}; correct the line.")
        files[key] = path.parent / name
        if not files[key].is_file():
            raise UserError(f"{path}: line {number}: {name}: no such file; correct the line.")
    return files
