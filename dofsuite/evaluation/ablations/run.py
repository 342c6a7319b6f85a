"""`table`: the runs of a sweep in one table, with mean and spread over seeds.

A run's numbers are those of its last validation (`metrics.json`) and of its evaluations: each
`report.json` below the folder of one of the runs, and there the rows that say to be the run's, by
kind of evaluation ("zero depth").
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dofsuite.cli import Parser
from dofsuite.errors import UserError
from dofsuite.evaluation.ablations.sweep_runs import Group, Run, grouped, read_runs
from dofsuite.evaluation.report import Table, format_number, write_report

DESCRIPTION = "Collect an ablation's runs into one table, with mean and spread over seeds."

PROBE = "Last validation"
"""Title of the table of `metrics.json`."""
SPREAD = "±"
"""Before a column: the standard deviation over seeds (n - 1)."""


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folders, such as runs/ablation_*/*"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("runs/table"), metavar="DIR", help="%(default)s"
    )
    parser.add_argument(
        "--unfinished", action="store_true", help="count runs that have not reached their end too"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the report."""
    read = read_runs(arguments.runs, arguments.unfinished)
    groups = grouped(read.runs)
    found = reported(read.runs)
    numbers = {run.folder: [*probed(run), *found.numbers[run.folder]] for run in read.runs}
    tables = tables_of(groups, numbers)
    if not tables:
        raise UserError(
            f"{read.runs[0].folder}: no run has numbers (metrics.json or a report); evaluate them first."
        )
    silent = [
        f"{run.folder}: no numbers (no metrics.json of a probe, no report)"
        for run in read.runs
        if not numbers[run.folder]
    ]
    notes = tuple(f"left out: {reason}" for reason in [*read.left_out, *silent, *found.left_out])
    tables[0] = tables[0]._replace(notes=tables[0].notes + notes)
    facts = {
        "runs": len(read.runs),
        "spread": "standard deviation over the runs of a row (n - 1), which differ in their seeds alone",
        **{group.name: ", ".join(seeded(run) for run in group.runs) for group in groups},
    }
    for file in write_report(arguments.output, "Runs and their settings", tables, [], facts):
        print(file)
    for table in tables:
        print(f"\n{table.title}\n{as_text(table)}", *table.notes, sep="\n")


class Numbers(NamedTuple):
    """Named numbers of one run: the title of the table they belong to, and what was done otherwise than usual."""

    table: str
    variant: str
    values: dict[str, float | None]


def probed(run: Run) -> Iterator[Numbers]:
    """Yield the numbers of a run's last validation."""
    probe = read_json(run.folder / "metrics.json").get("probe")
    if isinstance(probe, dict):
        yield Numbers(PROBE, "", {name: number(value) for name, value in probe.items()})


class Reported(NamedTuple):
    """What the reports in the runs' folders say of each run; and the rows of theirs that were not taken, with why."""

    numbers: dict[Path, list[Numbers]]
    left_out: list[str]


def reported(runs: Sequence[Run]) -> Reported:
    """Read all reports below the runs' folders; one evaluation may have been asked for several runs.

    Raises:
        UserError: A file is no report.
    """
    asked, left_out = {run.folder.resolve(): run.folder for run in runs}, []
    numbers: dict[Path, list[Numbers]] = {run.folder: [] for run in runs}
    for run in runs:
        for path in sorted(run.folder.rglob("report.json")):
            place, strange = path.parent.relative_to(run.folder).as_posix(), []
            for row in rows_of(path):
                if row.run in asked:
                    numbers[asked[row.run]].append(
                        Numbers(f"{place}: {row.table}", row.variant, row.values)
                    )
                elif row.run is not None:
                    strange.append(f"{row.run}, which is none of the runs asked for")
                elif (
                    row.name.partition(", ")[0] == run.name
                ):  # so it was named before rows said their run
                    strange.append(
                        f"{row.name}, which does not say its run: evaluate it again, its pictures are kept"
                    )
            left_out += [f"{path}: rows of {whose}" for whose in dict.fromkeys(strange)]
    return Reported(numbers, left_out)


class ReportedRow(NamedTuple):
    """A row of a report."""

    table: str
    name: str
    run: Path | None
    """Whose it is, resolved; None where it is no run's."""
    variant: str
    values: dict[str, float | None]


def rows_of(path: Path) -> list[ReportedRow]:
    """Read a report's rows.

    Raises:
        UserError: It is no report.
    """
    try:
        return [
            ReportedRow(
                table["title"],
                str(row["name"]),
                (path.parent.resolve() / row["run"]).resolve() if "run" in row else None,
                row.get("variant", ""),
                {name: number(value) for name, value in row["values"].items()},
            )
            for table in read_json(path).get("tables", [])
            for row in table["rows"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: it is no report of dofsuite; delete it, or evaluate the run again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read an object; an absent file is an empty one.

    Raises:
        UserError: It is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text())
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise UserError(f"{path}: it is no JSON object; evaluate the run again.")
    return data


def number(value: Any) -> float | None:
    """Return a number as reports hold it: infinities and NaN are text there; None for what is none."""
    if isinstance(value, bool):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def tables_of(groups: Sequence[Group], numbers: dict[Path, list[Numbers]]) -> list[Table]:
    """Return a table for each title, a row for each group and variant that has numbers there."""
    every = [found for own in numbers.values() for found in own]
    tables = []
    for title in dict.fromkeys(found.table for found in every):
        names = [
            name
            for name in dict.fromkeys(
                name for found in every if found.table == title for name in found.values
            )
            if any(found.table == title and found.values.get(name) is not None for found in every)
        ]
        variants = list(dict.fromkeys(found.variant for found in every if found.table == title))
        rows = []
        for group in groups:
            for variant in variants:
                of_runs = [values_of(numbers[run.folder], title, variant) for run in group.runs]
                if values := [found for found in of_runs if found is not None]:
                    rows.append((f"{group.name}, {variant}" if variant else group.name, values))
        tables.append(table_of(title, names, rows))
    return tables


def values_of(own: Sequence[Numbers], title: str, variant: str) -> dict[str, float | None] | None:
    """Return a run's numbers in one table; the last of several reports counts."""
    found = [one.values for one in own if (one.table, one.variant) == (title, variant)]
    return found[-1] if found else None


def table_of(
    title: str, names: Sequence[str], rows: Sequence[tuple[str, list[dict[str, float | None]]]]
) -> Table:
    """Return mean and, where a row has several runs, spread of each number."""
    with_spread = any(len(values) > 1 for _, values in rows)
    columns = [
        "runs",
        *(column for name in names for column in (name, *[f"{SPREAD} {name}"] * with_spread)),
    ]
    made: list[tuple[str, list[float | None]]] = []
    for row, values in rows:
        cells: list[float | None] = [len(values)]
        for name in names:
            mean, spread = mean_and_spread([found.get(name) for found in values])
            cells += [mean, spread] if with_spread else [mean]
        made.append((row, cells))
    return Table(title, tuple(columns), made)


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return mean and sample standard deviation; no mean where a run lacks the number, no spread of a single one."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return None, None
    if not all(math.isfinite(value) for value in there):
        return math.fsum(there), None  # infinite or NaN, as it should show
    mean = math.fsum(there) / len(there)
    return mean, statistics.stdev(there) if len(there) > 1 else None


def seeded(run: Run) -> str:
    """Return a run's folder and seeds, for the record."""
    seeds = sorted(
        {str(value) for key, value in run.seeds.items() if key == "seed_everything"}
    ) or ["?"]
    return f"{run.folder.as_posix()} (seed {', '.join(seeds)})"


def as_text(table: Table) -> str:
    """Return a table for a terminal."""
    lines = [
        ["", *table.columns],
        *([name, *map(format_number, values)] for name, values in table.rows),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    )
