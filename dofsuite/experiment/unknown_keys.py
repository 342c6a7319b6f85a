"""A key that does not exist: said with the name that was meant, where that is sure."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dofsuite.errors import UserError
from dofsuite.experiment.command import Command
from dofsuite.experiment.keys import ProvidedKeys, exists, nearest
from dofsuite.experiment.merging import merged
from dofsuite.experiment.parser import ExperimentCLI


def check_unknown_keys(sources: Sequence[ProvidedKeys], resolved: dict[str, Any]) -> None:
    """Refuse keys that the parser dropped without a word, such as a misspelt dataclass field given as an option.

    Raises:
        UserError: A source gives a key that the resolved experiment does not have.
    """
    for source in reversed(sources):
        for key in source.keys:
            if not exists(resolved, key):
                raise unknown_key(source, key, resolved)


def unknown_key(source: ProvidedKeys, key: str, resolved: dict[str, Any] | None) -> UserError:
    """The error for a key that does not exist, given the experiment as it resolves without that key (if it does)."""
    meant = nearest(resolved, key) if resolved else None
    hint = f"; did you mean {source.spelled(meant)}?" if meant else "."
    return UserError(f"{source.source}: {source.spelled(key)}: no such key{hint}")


def parse(
    command: Command, content: dict[str, Any], words: Sequence[str], file: Path | None = None
) -> ExperimentCLI:
    """Parse the content of an experiment with these overrides; `file` is where it lies, if it does.

    Raises:
        ParserMistake: A key or value is not accepted.
    """
    together, rest = merged(content, words)
    given = ["--trainer.default_root_dir", str(command.run_folder), "--config"]
    if (
        file is not None and together == content
    ):  # what the file names beside itself is found there alone
        return ExperimentCLI([*given, str(file), *rest], command.importable)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as copied:
        yaml.safe_dump(together, copied)
        copied.flush()
        return ExperimentCLI([*given, copied.name, *rest], command.importable)


def resolved_without(command: Command, content: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The experiment as it would be without a key that does not exist, or None where more than that is wrong."""
    words = _words_without([*command.sweep_overrides, *command.overrides], key)
    try:
        return parse(command, _without(content, key.split(".")), words).resolved()
    except Exception:  # only a suggestion is lost: the mistake itself is reported either way
        return None


def _without(node: Any, parts: list[str]) -> Any:
    """A copy of a mapping without the key at a path."""
    if not isinstance(node, dict):
        return node
    if len(parts) == 1:
        return {key: value for key, value in node.items() if key != parts[0]}
    return {
        key: _without(value, parts[1:]) if key == parts[0] else value for key, value in node.items()
    }


def _words_without(words: Sequence[str], key: str) -> list[str]:
    """Options without those that set `key`, and without their values."""
    kept: list[str] = []
    skipping = False
    for word in words:
        if word.startswith("--"):
            skipping = word[2:].partition("=")[0].removesuffix("+") == key
        if not skipping:
            kept.append(word)
    return kept
