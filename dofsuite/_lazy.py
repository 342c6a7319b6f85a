"""Lazy exports of a room (PEP 562): light imports stay light, YAML can name `dofsuite.room.Class`.

What a room exports stands once, in the `__init__.pyi` beside its `__init__.py`, as
`from dofsuite.room.module import Name as Name`: type checkers and editors read the same lines.
"""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path


def lazy_exports(
    room: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of the room whose `__init__.py` is `file`."""
    exports = ast.parse(Path(file).with_suffix(".pyi").read_text())
    imports = [node for node in exports.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports for alias in node.names}

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(importlib.import_module(str(homes[name])), name)

    return get, lambda: sorted(homes), sorted(homes)
