"""`table`: the runs of a sweep in one table, with mean and spread over seeds.

A run's numbers are those of its last validation (`metrics.json`) and of its evaluations: each
`report.json` below the folder of one of the runs, and there the rows that name the run, by variant
of the evaluation ("zero depth").
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dofsuite.errors import UserError
from dofsuite.evaluation.ablations.config import TableConfig
from dofsuite.evaluation.ablations.sweep_runs import Group, Run, group_runs, read_runs
from dofsuite.evaluation.report import write_report
from dofsuite.evaluation.statistics import welch
from dofsuite.evaluation.tables import Block, Cell, Number, Table
from dofsuite.files import parse_json

Values = dict[str, float | None]
# One run's numbers, by table and variant.
RunNumbers = dict[tuple[str, str], Values]


def run(config: TableConfig) -> None:
    # Numbers of every run
    runs, left_out = read_runs(config.runs, config.unfinished)
    groups = group_runs(runs)
    numbers, unused_rows = numbers_of(runs)
    tables = tables_of(groups, numbers)
    if not tables:
        raise UserError(
            f"{runs[0].folder}: no run has numbers (metrics.json or a report); evaluate them first."
        )

    # What the tables leave out
    left_out += [
        f"{folder}: no numbers (no metrics.json of a probe, no report)"
        for folder, found in numbers.items()
        if not found
    ]
    notes = tuple(f"left out: {reason}" for reason in [*left_out, *unused_rows])
    tables[0] = tables[0]._replace(notes=tables[0].notes + notes)

    # Report, and the same on the terminal
    facts: dict[str, Any] = {
        "runs": len(runs),
        "spread": "standard deviation over the runs of a row (n - 1), which differ in their seeds "
        "alone",
    }
    for group in groups:
        facts[group.name] = ", ".join(
            f"{run.folder.as_posix()} (seed {run.seeds.get('seed_everything', '?')})"
            for run in group.runs
        )
    print(*write_report(config.output, "Runs and their settings", tables, [], facts), sep="\n")
    for table in tables:
        print(f"\n{table.title}\n{to_text(table)}", *table.notes, sep="\n")


class ReportRow(NamedTuple):
    table: str
    name: str
    # The trained run, resolved; None where it is no run's.
    run: Path | None
    # How the evaluation differs from the usual; "" if it does not.
    variant: str
    values: Values


def numbers_of(runs: Sequence[Run]) -> tuple[dict[Path, RunNumbers], list[str]]:
    """Read the last validations and all reports below the runs' folders.

    One report may hold several runs; of several reports of one run in a table the last counts.

    Returns:
        Numbers by the run's folder, and which rows were not used, with why.
    """
    folders = {run.folder.resolve(): run.folder for run in runs}
    numbers: dict[Path, RunNumbers] = {}
    for run in runs:
        probe = read_json(run.folder / "metrics.json").get("probe")
        numbers[run.folder] = (
            {("Last validation", ""): floats(probe)} if isinstance(probe, dict) else {}
        )

    unused: list[str] = []
    for run in runs:
        for path in sorted(run.folder.rglob("report.json")):
            place = path.parent.relative_to(run.folder).as_posix()
            reasons = []
            for row in rows_of(path):
                if row.run in folders:
                    numbers[folders[row.run]][f"{place}: {row.table}", row.variant] = row.values
                elif row.run is not None:
                    reasons.append(f"{row.run}, which is none of the runs given")
                elif row.name.partition(", ")[0] == run.name:
                    # A report of a version whose rows did not name their run
                    reasons.append(
                        f"{row.name}, which does not say its run: evaluate it again, its pictures "
                        "are kept"
                    )
            unused += [f"{path}: rows of {reason}" for reason in dict.fromkeys(reasons)]
    return numbers, unused


def rows_of(path: Path) -> list[ReportRow]:
    rows = []
    try:
        for table in read_json(path).get("tables", []):
            for row in table["rows"]:
                run = (path.parent.resolve() / row["run"]).resolve() if "run" in row else None
                values, variant = floats(row["values"]), row.get("variant", "")
                rows.append(ReportRow(table["title"], str(row["name"]), run, variant, values))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: it is no report of dofsuite; delete it, or evaluate the run again."
        ) from error
    return rows


def floats(values: dict[str, Any]) -> Values:
    # Infinities and NaN are text in JSON; what is no number is None
    numbers: Values = {}
    for key, value in values.items():
        try:
            numbers[key] = float(value)
        except (TypeError, ValueError):
            numbers[key] = None
    return numbers


def read_json(path: Path) -> dict[str, Any]:
    # An absent file is an empty object
    try:
        data = parse_json(path.read_text()) if path.is_file() else {}
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise UserError(f"{path}: it is no JSON object; evaluate the run again.")
    return data


def tables_of(groups: Sequence[Group], numbers: dict[Path, RunNumbers]) -> list[Table]:
    by_title: dict[str, list[tuple[str, Values]]] = {}
    for own in numbers.values():
        for (title, variant), values in own.items():
            by_title.setdefault(title, []).append((variant, values))

    tables = []
    for title, found in by_title.items():
        # Columns that have a number anywhere
        columns = dict.fromkeys(name for _, values in found for name in values)
        names = [name for name in columns if any(v.get(name) is not None for _, v in found)]

        # One row a group and variant, with the values of its runs
        rows = []
        for group in groups:
            for variant in dict.fromkeys(variant for variant, _ in found):
                of_runs = [numbers[run.folder].get((title, variant)) for run in group.runs]
                if present := [values for values in of_runs if values is not None]:
                    rows.append((f"{group.name}, {variant}" if variant else group.name, present))
        tables.append(table_of(title, names, rows))
    return tables


def table_of(title: str, names: Sequence[str], rows: Sequence[tuple[str, list[Values]]]) -> Table:
    # A mean has its standard deviation over seeds (n - 1) beside it, where a row has several runs
    width = 2 if any(len(values) > 1 for _, values in rows) else 1
    columns = ["runs"]
    for name in names:
        columns += [name, f"± {name}"][:width]

    cells: list[tuple[str, list[Number]]] = []
    for row, values in rows:
        line: list[Number] = [len(values)]
        for name in names:
            line += mean_and_spread([found.get(name) for found in values])[:width]
        cells.append((row, line))
    return Table(title, tuple(columns), cells, blocks=welch_block(names, rows, width))


def welch_block(
    names: Sequence[str], rows: Sequence[tuple[str, list[Values]]], width: int
) -> tuple[Block, ...]:
    # Between seeds: each row's mean minus the first row's, where both have several runs
    (first, base), *others = rows
    lines: list[tuple[str, list[Cell]]] = []
    for row, values in others:
        line: list[Cell] = [len(values)]
        for name in names:
            pair = [finite([found.get(name) for found in runs]) for runs in (values, base)]
            has_spread = min(map(len, pair)) > 1
            line += [welch(*pair) if has_spread else None, None][:width]
        if len(values) > 1 and len(base) > 1:
            lines.append((row, line))
    title = (
        f"Difference to {first} between seeds: 95 % interval by Welch's t, bold where it excludes 0"
    )
    return (Block(title, lines, is_difference=True),) if lines else ()


def finite(values: Sequence[float | None]) -> list[float]:
    # All of them, or none
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    return numbers if len(numbers) == len(values) else []


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    # Sample standard deviation; no mean where a run lacks the number, no spread of a single one
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None, None
    if not all(math.isfinite(value) for value in numbers):
        return math.fsum(numbers), None  # infinite or NaN, as it should show
    mean = math.fsum(numbers) / len(numbers)
    return mean, statistics.stdev(numbers) if len(numbers) > 1 else None


def to_text(table: Table) -> str:
    # Columns as wide as their widest cell; a block's title stands alone
    lines = [
        [name, *(block.text(value) for value in values)]
        for block in table.all_blocks()
        for name, values in block.rows
    ]
    widths = [max(map(len, column)) for column in zip(["", *table.columns], *lines, strict=True)]
    texts = [
        "  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for name, *cells in [["", *table.columns], *lines]
    ]
    place = 1 + len(table.rows)
    for block in table.blocks:
        texts.insert(place, block.title)
        place += 1 + len(block.rows)
    return "\n".join(texts)
