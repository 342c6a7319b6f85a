"""A report: the same tables as Markdown, as JSON and, with the pictures, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from dofsuite.files import write_json, write_text
from dofsuite.images import encode_png, to_pil

DECIMALS = 3
NOTHING = "-"
"""What is printed where there is no number."""

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #1b1b1b }}
table {{ border-collapse: collapse; margin: .6rem 0 }}
th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }}
th:first-child, td:first-child {{ text-align: left }}
.pictures {{ overflow-x: auto }}
.pictures th, .pictures td {{ text-align: left; font-weight: normal; font-size: 13px; border: 0; padding: 2px 4px }}
.facts td {{ text-align: left }}
img {{ display: block; min-width: 96px; image-rendering: pixelated }}
</style></head><body>
"""
"""The policy in it lets the page load nothing, and run nothing: its pictures are in it."""


Number = float | int | None
"""What a cell holds: None where there is no number; a whole number is printed as it is."""


class OfRun(NamedTuple):
    """Whose numbers a row has: a run of ours, and what was done otherwise than usual."""

    run: Path
    variant: str


class Table(NamedTuple):
    """A table: a name and a number for every column in each row, None where there is no number."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, list[Number]]]
    notes: tuple[str, ...] = ()
    of_runs: Mapping[str, OfRun] = MappingProxyType({})
    """By the names of the rows; only the JSON says it."""


class ImageSheet(NamedTuple):
    """A sheet: a name and pictures in each row, [3, h, w] display values in [0, 1]."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Tensor]]]


def write_report(
    folder: Path,
    title: str,
    tables: Sequence[Table],
    pictures: Sequence[ImageSheet],
    facts: dict[str, Any],
) -> list[Path]:
    """Write `report.md`, `report.json` and `report.html`, and return their paths.

    Args:
        folder: Where they go.
        title: Of the report.
        tables: Numbers; three decimals are printed, all of them kept in the JSON.
        pictures: Sheets, in the HTML only.
        facts: The options that the numbers depend on, plain data, printed under the tables.

    Raises:
        UserError: The folder cannot be written.
        ValueError: A row does not fit its table's columns.
    """
    for table in tables:
        for name, values in table.rows:
            if len(values) != len(table.columns):
                raise ValueError(
                    f"{table.title}: {name}: {len(values)} values for {len(table.columns)} columns"
                )
    files = [folder / f"report.{kind}" for kind in ("md", "json", "html")]
    write_text(files[0], as_markdown(title, tables, facts))
    write_json(files[1], as_data(title, tables, facts, folder))
    write_text(files[2], as_html(title, tables, pictures, facts))
    return files


def shown(value: Number) -> str:
    """Print a number with three decimals, a whole number that is one as it is, and nothing as a dash."""
    if value is None:
        return NOTHING
    return str(value) if isinstance(value, int) else f"{value:z.{DECIMALS}f}"  # z: no -0.000


def plain(value: Any) -> str:
    """Print a fact: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def as_markdown(title: str, tables: Sequence[Table], facts: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [f"# {title}", ""]
    for table in tables:
        lines += [
            f"## {table.title}",
            "",
            row_of(["", *table.columns]),
            row_of(["---", *["---:"] * len(table.columns)]),
        ]
        lines += [row_of([name, *map(shown, values)]) for name, values in table.rows]
        lines += ["", *(f"- {note}" for note in table.notes), *[""] * bool(table.notes)]
    lines += [
        "## Settings",
        "",
        *(f"- {name}: {plain(value)}" for name, value in facts.items()),
        "",
    ]
    return "\n".join(lines)


def row_of(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def as_data(
    title: str, tables: Sequence[Table], facts: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Return the report as plain data; a number that JSON has no word for is the text `inf`, `-inf` or `nan`.

    A run is named as seen from the report's folder, so that both may be moved together.
    """

    def number(value: Number) -> Number | str:
        return value if value is None or math.isfinite(value) else str(value)

    def whose(row: OfRun | None) -> dict[str, str]:
        return (
            {}
            if row is None
            else {"run": os.path.relpath(row.run, folder.resolve()), "variant": row.variant}
        )

    return {
        "title": title,
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [
                    {
                        "name": name,
                        **whose(table.of_runs.get(name)),
                        "values": dict(zip(table.columns, map(number, values), strict=True)),
                    }
                    for name, values in table.rows
                ],
                "notes": list(table.notes),
            }
            for table in tables
        ],
        "facts": json.loads(json.dumps(facts, default=str)),
    }


def as_html(
    title: str, tables: Sequence[Table], pictures: Sequence[ImageSheet], facts: dict[str, Any]
) -> str:
    """Return the report as one HTML page: styles and pictures are in it, and there is no script."""
    parts = [HEAD.format(title=html.escape(title)), f"<h1>{html.escape(title)}</h1>"]
    for table in tables:
        parts += [f"<h2>{html.escape(table.title)}</h2><table>", cells("th", ["", *table.columns])]
        parts += [cells("td", [name, *map(shown, values)]) for name, values in table.rows]
        parts += ["</table>", *(f"<p>{html.escape(note)}</p>" for note in table.notes)]
    parts += [sheet(picture) for picture in pictures]
    parts += ["<h2>Settings</h2><table class='facts'>"]
    parts += [cells("td", [name, plain(value)]) for name, value in facts.items()]
    return "\n".join([*parts, "</table></body></html>", ""])


def cells(tag: str, texts: Sequence[str]) -> str:
    """Return a row of an HTML table."""
    return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"


def sheet(picture: ImageSheet) -> str:
    """Return a sheet as an HTML table of pictures."""
    parts = [
        f"<h2>{html.escape(picture.title)}</h2><div class='pictures'><table>",
        cells("th", ["", *picture.columns]),
    ]
    for name, images in picture.rows:
        shown_images = "".join(
            f"<td><img alt='{html.escape(f'{name}: {column}', quote=True)}' src='{data_uri(image)}'></td>"
            for column, image in zip(picture.columns, images, strict=True)
        )
        parts.append(f"<tr><td>{html.escape(name)}</td>{shown_images}</tr>")
    return "\n".join([*parts, "</table></div>"])


def data_uri(image: Tensor, kind: str = "PNG") -> str:
    """Return an image [c, h, w] in [0, 1] as a URI that holds it, `kind` PNG or JPEG."""
    if kind == "PNG":
        data = encode_png(image, optimize=True)
    else:
        file = io.BytesIO()
        to_pil(image).save(file, format=kind, quality=88)
        data = file.getvalue()
    return f"data:image/{kind.lower()};base64," + base64.b64encode(data).decode()
