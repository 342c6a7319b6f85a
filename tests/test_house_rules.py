"""The house's rules of size and naming, which a script can see."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "dofsuite").rglob("*.py"))
NAMED_FOR_NOTHING = {"utils", "common", "helpers", "misc"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError|placeholder|stub)\b")


def functions_of(path: Path) -> list[tuple[str, int]]:
    """Name and length in lines of every function of a file, constructors left out."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__"
    ]


def test_no_file_is_longer_than_300_lines() -> None:
    assert [path.name for path in FILES if len(path.read_text().splitlines()) > 300] == []


def test_no_function_is_longer_than_50_lines() -> None:
    assert [name for path in FILES for name, lines in functions_of(path) if lines > 50] == []


def test_the_median_function_is_shorter_than_15_lines() -> None:
    assert statistics.median(lines for path in FILES for _, lines in functions_of(path)) < 15


def test_no_file_is_named_for_nothing() -> None:
    assert [
        path.name
        for path in FILES
        if path.stem in NAMED_FOR_NOTHING or path.stem.startswith("base_")
    ] == []


def test_nothing_is_left_unfinished() -> None:
    assert [path.name for path in FILES if UNFINISHED.search(path.read_text())] == []
