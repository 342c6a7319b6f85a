"""A report: the same tables as Markdown, JSON and a self-contained HTML file with images."""

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

# The content security policy lets the page load and run nothing: its images are in it.
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px;
  padding: 0 1rem; color: #1b1b1b }}
table {{ border-collapse: collapse; margin: .6rem 0 }}
th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: top }}
th:first-child, td:first-child {{ text-align: left }}
.images {{ overflow-x: auto }}
.images th, .images td {{ text-align: left; font-weight: normal; font-size: 13px; border: 0;
  padding: 2px 4px }}
.facts td {{ text-align: left }}
img {{ display: block; min-width: 96px; image-rendering: pixelated }}
</style></head><body>
"""


# Value of a cell: None where there is no number; an integer is printed as one.
Number = float | int | None


# The trained run whose numbers a row has, and how its evaluation differs from the usual.
class RunVariant(NamedTuple):
    run: Path
    variant: str


class Table(NamedTuple):
    """A table: rows of a name and a number for every column."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, list[Number]]]
    notes: tuple[str, ...] = ()
    # By row name; stated in the JSON only.
    runs: Mapping[str, RunVariant] = MappingProxyType({})


class ImageSheet(NamedTuple):
    """A sheet: rows of a name and an image [3, h, w] in [0, 1] for every column."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Tensor]]]


def write_report(
    folder: Path,
    title: str,
    tables: Sequence[Table],
    sheets: Sequence[ImageSheet],
    facts: dict[str, Any],
    figures: Sequence[str] = (),
) -> list[Path]:
    """Write `report.md`, `report.json` and `report.html`, and return their paths.

    Args:
        folder: Where they go.
        title: Of the report.
        tables: Numbers; three decimals are printed, all of them kept in the JSON.
        sheets: Images, in the HTML only.
        facts: The options that the numbers depend on, plain data, printed under the tables.
        figures: SVG elements, above the tables of the HTML.

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
    write_text(files[0], to_markdown(title, tables, facts))
    write_json(files[1], to_json(title, tables, facts, folder))
    write_text(files[2], to_html(title, tables, sheets, facts, figures))
    return files


def format_number(value: Number) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:z.3f}"  # z: no -0.000


def format_fact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def to_markdown(title: str, tables: Sequence[Table], facts: dict[str, Any]) -> str:
    lines = [f"# {title}", ""]
    # Tables, each with its notes
    for table in tables:
        lines += [f"## {table.title}", "", markdown_row(["", *table.columns])]
        lines.append(markdown_row(["---", *["---:"] * len(table.columns)]))
        lines += [markdown_row([name, *map(format_number, values)]) for name, values in table.rows]
        lines += ["", *(f"- {note}" for note in table.notes), *[""] * bool(table.notes)]

    # Settings
    lines += ["## Settings", ""]
    lines += [f"- {name}: {format_fact(value)}" for name, value in facts.items()]
    return "\n".join([*lines, ""])


def markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def to_json(
    title: str, tables: Sequence[Table], facts: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Return the report as plain data.

    Infinities and NaN, which JSON lacks, are the texts `inf`, `-inf` and `nan`. The path of a run
    is relative to the report's folder, so that both may be moved together.
    """

    def number(value: Number) -> Number | str:
        return value if value is None or math.isfinite(value) else str(value)

    def row_of(table: Table, name: str, values: list[Number]) -> dict[str, Any]:
        row: dict[str, Any] = {"name": name}
        if name in table.runs:
            run, row["variant"] = table.runs[name]
            row = {"name": name, "run": os.path.relpath(run, folder.resolve()), **row}
        return row | {"values": dict(zip(table.columns, map(number, values), strict=True))}

    # All digits, whatever is printed
    return {
        "title": title,
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [row_of(table, name, values) for name, values in table.rows],
                "notes": list(table.notes),
            }
            for table in tables
        ],
        "facts": json.loads(json.dumps(facts, default=str)),
    }


def to_html(
    title: str,
    tables: Sequence[Table],
    sheets: Sequence[ImageSheet],
    facts: dict[str, Any],
    figures: Sequence[str] = (),
) -> str:
    parts = [HEAD.format(title=html.escape(title)), f"<h1>{html.escape(title)}</h1>", *figures]
    # Tables, sheets, settings
    for table in tables:
        parts.append(f"<h2>{html.escape(table.title)}</h2><table>")
        parts.append(html_row("th", ["", *table.columns]))
        parts += [html_row("td", [name, *map(format_number, row)]) for name, row in table.rows]
        parts += ["</table>", *(f"<p>{html.escape(note)}</p>" for note in table.notes)]
    parts += [sheet_html(sheet) for sheet in sheets]
    parts += ["<h2>Settings</h2><table class='facts'>"]
    parts += [html_row("td", [name, format_fact(value)]) for name, value in facts.items()]
    return "\n".join([*parts, "</table></body></html>", ""])


def html_row(tag: str, texts: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"


def sheet_html(sheet: ImageSheet) -> str:
    parts = [f"<h2>{html.escape(sheet.title)}</h2><div class='images'><table>"]
    parts.append(html_row("th", ["", *sheet.columns]))
    for name, images in sheet.rows:
        alts = [html.escape(f"{name}: {column}") for column in sheet.columns]
        cells = "".join(
            f"<td><img alt='{alt}' src='{data_uri(image)}'></td>"
            for alt, image in zip(alts, images, strict=True)
        )
        parts.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return "\n".join([*parts, "</table></div>"])


def data_uri(image: Tensor, kind: str = "PNG") -> str:
    """Return an image [c, h, w] in [0, 1] as a data URI, `kind` PNG or JPEG."""
    if kind == "PNG":
        data = encode_png(image, optimize=True)
    else:
        file = io.BytesIO()
        to_pil(image).save(file, format=kind, quality=88)
        data = file.getvalue()
    return f"data:image/{kind.lower()};base64," + base64.b64encode(data).decode()
