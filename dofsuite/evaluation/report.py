"""A report: the same tables as Markdown, JSON, LaTeX and a self-contained HTML file with images."""

import base64
import html
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from dofsuite.evaluation.statistics import Estimate
from dofsuite.evaluation.tables import (
    Cell,
    Number,
    Table,
    latex_tables,
    markdown_table,
    number_of,
)
from dofsuite.files import write_json, write_text
from dofsuite.images import encode_png, to_pil

# Smaller WebP images are lossless: they are shown enlarged.
LOSSLESS_PX = 96
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
th.block {{ font-weight: normal; font-style: italic; padding-top: .9rem }}
td small {{ display: block; color: #666; white-space: nowrap }}
h1, h2, p, .facts td {{ overflow-wrap: anywhere }}
.wide, .images, .plot {{ overflow-x: auto }}
.plot svg {{ min-width: 720px; max-width: 100%; height: auto }}
.images th, .images td {{ text-align: left; font-weight: normal; font-size: 13px; border: 0;
  padding: 2px 4px }}
.facts td {{ text-align: left }}
img {{ display: block; min-width: 96px; image-rendering: pixelated }}
</style></head><body>
"""


class ImageSheet(NamedTuple):
    """A sheet: rows of a name and an image [3, h, w] in [0, 1] for every column."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Tensor]]]
    # Page with more of it, relative to the report.
    link: str = ""


def write_report(
    folder: Path,
    title: str,
    tables: Sequence[Table],
    sheets: Sequence[ImageSheet],
    facts: dict[str, Any],
    figures: Sequence[str] = (),
) -> list[Path]:
    """Write `report.md`, `report.json`, `report.html` and `tables.tex`; return their paths.

    Args:
        folder: Where they go.
        title: Of the report.
        tables: Numbers; four decimals are printed, all of them kept in the JSON.
        sheets: Images, in the HTML only.
        facts: The options that the numbers depend on, plain data, printed under the tables.
        figures: HTML (SVG elements), above the tables of the HTML.

    Raises:
        UserError: The folder cannot be written.
        ValueError: A row does not fit its table's columns.
    """
    for table in tables:
        table.check()
    files = [folder / f"report.{kind}" for kind in ("md", "json", "html")] + [folder / "tables.tex"]
    write_text(files[0], to_markdown(title, tables, facts))
    write_json(files[1], to_json(title, tables, facts, folder))
    write_text(files[2], to_html(title, tables, sheets, facts, figures))
    write_text(files[3], latex_tables(tables))
    return files


def format_fact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def to_markdown(title: str, tables: Sequence[Table], facts: dict[str, Any]) -> str:
    lines = [f"# {title}", "", *(line for table in tables for line in markdown_table(table))]
    lines += ["## Settings", ""]
    lines += [f"- {name}: {format_fact(value)}" for name, value in facts.items()]
    return "\n".join([*lines, ""])


def to_json(
    title: str, tables: Sequence[Table], facts: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Return the report as plain data.

    Infinities and NaN, which JSON lacks, are the texts `inf`, `-inf` and `nan`. The path of a run
    is relative to the report's folder, so that both may be moved together.
    """

    def number(cell: Cell) -> Number | str:
        value = number_of(cell)
        return value if value is None or math.isfinite(value) else str(value)

    def row_of(table: Table, name: str, values: Sequence[Cell]) -> dict[str, Any]:
        row: dict[str, Any] = {"name": name}
        if name in table.runs:
            run, row["variant"] = table.runs[name]
            row = {"name": name, "run": os.path.relpath(run, folder.resolve()), **row}
        row["values"] = dict(zip(table.columns, map(number, values), strict=True))
        # 95 % intervals, where there are any
        intervals = {
            column: list(cell.interval)
            for column, cell in zip(table.columns, values, strict=True)
            if isinstance(cell, Estimate) and cell.interval
        }
        return row | ({"intervals": intervals} if intervals else {})

    # All digits, whatever is printed; the blocks' rows are no run's
    return {
        "title": title,
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [row_of(table, name, values) for name, values in table.rows],
                "blocks": [
                    {
                        "title": block.title,
                        "rows": [
                            row_of(table._replace(runs={}), name, values)
                            for name, values in block.rows
                        ],
                    }
                    for block in table.blocks
                ],
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
        parts += table_html(table)
    parts += [sheet_html(sheet) for sheet in sheets]
    parts += ["<h2>Settings</h2><div class='wide'><table class='facts'>"]
    parts += [html_row("td", [name, format_fact(value)]) for name, value in facts.items()]
    return "\n".join([*parts, "</table></div></body></html>", ""])


def table_html(table: Table) -> list[str]:
    parts = [f"<h2>{html.escape(table.title)}</h2><div class='wide'><table>"]
    parts.append(html_row("th", ["", *table.columns]))
    for block in table.all_blocks():
        if block.title:
            span = len(table.columns) + 1
            parts.append(
                f"<tr><th class='block' colspan='{span}'>{html.escape(block.title)}</th></tr>"
            )
        for name, values in block.rows:
            # The interval under its number
            cells = [f"<td>{html.escape(name)}</td>"]
            for column, value in enumerate(values):
                text = block.value(value)
                text = f"<b>{text}</b>" if table.is_bold(block, name, column) else text
                interval = block.interval(value)
                cells.append(f"<td>{text}{f'<small>{interval}</small>' if interval else ''}</td>")
            parts.append(f"<tr>{''.join(cells)}</tr>")
    return [*parts, "</table></div>", *(f"<p>{html.escape(note)}</p>" for note in table.notes)]


def html_row(tag: str, texts: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"


def sheet_html(sheet: ImageSheet) -> str:
    title = html.escape(sheet.title)
    if sheet.link:
        title = f"<a href='{html.escape(sheet.link)}'>{title}</a>"
    parts = [f"<h2>{title}</h2><div class='images'><table>"]
    parts.append(html_row("th", ["", *sheet.columns]))
    for name, images in sheet.rows:
        alts = [html.escape(f"{name}: {column}") for column in sheet.columns]
        cells = "".join(
            f"<td><img alt='{alt}' src='{data_uri(image)}'></td>"
            for alt, image in zip(alts, images, strict=True)
        )
        parts.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return "\n".join([*parts, "</table></div>"])


def data_uri(image: Tensor, kind: Literal["PNG", "JPEG", "WEBP"] = "WEBP") -> str:
    """Return an image [c, h, w] in [0, 1] as a data URI; a small WebP keeps every value."""
    data = encode_png(image, optimize=True) if kind == "PNG" else encode_small(image, kind)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(data).decode()


def encode_small(image: Tensor, kind: Literal["JPEG", "WEBP"]) -> bytes:
    file, is_lossless = io.BytesIO(), max(image.shape[-2:]) <= LOSSLESS_PX
    options: dict[str, Any] = {"quality": 88}
    if kind == "WEBP" and is_lossless:  # the fastest: a fifth larger in a thirtieth of the time
        options = {"lossless": True, "quality": 0, "method": 0}
    to_pil(image).save(file, format=kind, **options)
    return file.getvalue()
