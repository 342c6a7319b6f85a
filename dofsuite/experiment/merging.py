"""Overrides put into the mappings of the file that they belong to, for values that are one of several classes.

Where a value is one of two dataclasses (`data.schedule`), its keys tell which. An override is a key
on its own: the parser gives it to the first class that has such a key, and drops the file's keys
that this class does not have. Put into the file's mapping beforehand, it is read beside them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

SECTION_DEPTH = 2
"""A value with fewer keys above it (`trainer.max_steps`) is a section's own: there is nothing to tell apart."""


def merged(content: dict[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the file's content with the overrides of its plain mappings put in, and the words that are left.

    Values go in as they are written: the parser reads a string of a file as it reads a word.
    """
    content, options = copy.deepcopy(content), list(_options(words))
    whole = [f"{key}." for key, _, _ in options]
    rest: list[str] = []
    for key, value, spelled in options:
        mapping = _mapping_of(content, key)
        replaced = any(
            key.startswith(parent) for parent in whole
        )  # `--data.schedule FILE`, which is read later
        if value is None or mapping is None or replaced:
            rest += spelled
        else:
            mapping[key.rpartition(".")[2]] = value
    return content, rest


def _options(words: Sequence[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    """Each option's key, its value (None where it has none) and the words that it is made of."""
    words = list(words)
    while words:
        spelled = [words.pop(0)]
        key, equals, value = spelled[0].partition("=")
        if not equals and words and not words[0].startswith("--"):
            spelled.append(words.pop(0))
            equals, value = "=", spelled[1]
        yield key.removeprefix("--"), value if equals and key.startswith("--") else None, spelled


def _mapping_of(content: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The file's plain mapping (one that names no class) that a key belongs into, below its section."""
    node: Any = content
    *parents, _ = key.split(".")
    for part in parents:
        arguments = node.get("init_args") if isinstance(node, dict) else None
        if isinstance(node, dict) and part not in node and isinstance(arguments, dict):
            node = arguments
        node = node.get(part) if isinstance(node, dict) else None
    is_section = len(parents) < SECTION_DEPTH or parents[-1] == "init_args"
    return None if is_section or not isinstance(node, dict) or "class_path" in node else node
