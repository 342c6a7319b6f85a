"""Lazy exports of a room (PEP 562): a light import stays light, and YAML can name `dofsuite.room.Class`."""

from __future__ import annotations

import importlib
from collections.abc import Callable


def lazy_exports(
    room: str, homes: dict[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for `room`, given the submodule of each exported name."""

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{room}.{homes[name]}"), name)

    return get, lambda: sorted(homes), sorted(homes)
