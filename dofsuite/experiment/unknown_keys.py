"""A key that does not exist: said with the name that was meant, where that is sure."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dofsuite.errors import UserError
from dofsuite.experiment.command import OWN_OPTIONS, Command
from dofsuite.experiment.keys import (
    ProvidedKeys,
    exists,
    is_mapping,
    near_name,
    nearest,
    short,
)
from dofsuite.experiment.nulls import sections_with_null
from dofsuite.experiment.parser import ExperimentCLI
from dofsuite.experiment.yaml_file import read_experiment_file
from dofsuite.training.run.renamed_keys import (
    class_paths,
    new_class_path,
    new_name,
    why_removed,
)


def check_unknown_keys(sources: Sequence[ProvidedKeys], resolved: dict[str, Any]) -> None:
    """Check for keys that the parser dropped silently, such as a misspelt dataclass field.

    Raises:
        UserError: A source gives a key that the resolved experiment does not have.
    """
    replaced: list[str] = []
    for source in reversed(sources):
        for key in source.keys:
            is_replaced = any(short(key).startswith(f"{section}.") for section in replaced)
            if not exists(resolved, key) and not is_replaced:
                raise unknown_key(source, key, resolved)
        # A mapping that is given whole, such as `data.train`, takes the place of the one before
        replaced += [short(key) for key in source.keys if is_mapping(resolved, key)]


def unknown_key(source: ProvidedKeys, key: str, resolved: dict[str, Any] | None) -> UserError:
    """The error for a key that does not exist; `resolved` is the experiment without that key."""
    meant = nearest(resolved, key) if resolved else None
    hint = f"; did you mean {source.spelled(meant)}?" if meant and meant != key else "."
    # An option of `fit` itself, which belongs on the command line
    own = near_name(source.spelled(key), OWN_OPTIONS) if source.as_option else None
    if own is not None and own == source.spelled(key):
        hint = "; it belongs on the command line."
    elif own is not None and hint == ".":
        hint = f"; did you mean {own}?"
    return UserError(f"{source.source}: {source.spelled(key)}: no such key{hint}")


def parse(
    command: Command, words: Sequence[str], content: dict[str, Any] | None = None
) -> ExperimentCLI:
    """Parse the command's experiment file, or other content in its place, with overrides.

    Raises:
        ParserMistake: A key or value is not accepted.
    """
    assert command.file is not None
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as copied:
        yaml.safe_dump(content, copied)
        copied.flush()
        file = command.file if content is None else Path(copied.name)
        folder = ["--trainer.default_root_dir", str(command.run_folder)]
        nulls = sections_with_null(content or read_experiment_file(file), words)
        return ExperimentCLI([*folder, "--config", str(file), *words], command.importable, nulls)


def resolved_without(command: Command, content: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The experiment without a key that does not exist; None where more than that is wrong."""
    words = _words_without([*command.sweep_overrides, *command.overrides], key)
    try:
        return parse(command, words, _without(content, key.split("."))).resolved()
    except Exception:  # only a suggestion is lost: the mistake itself is reported either way
        return None


def _without(node: Any, parts: list[str]) -> Any:
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


def check_renamed(
    sources: Sequence[ProvidedKeys], content: dict[str, Any], words: Sequence[str]
) -> None:
    """Refuse names from before they were changed, with the name of today."""
    # Classes, in the file and as values of overrides.
    values = [(sources[0], key, value) for key, value in class_paths(content)]
    values += [(sources[-1], word, word) for word in words]
    for source, key, value in values:
        if (new := new_class_path(value)) is not None:
            raise UserError(f"{source.source}: {source.spelled(key)}: {value} is {new} now.")

    # Keys that are gone.
    for source in reversed(sources):
        for key in source.keys:
            if reason := why_removed(key):
                raise UserError(
                    f"{source.source}: {source.spelled(key)}: there is no such key any more: "
                    f"{reason}."
                )

    # Keys below the class that a section names.
    for section in ("model", "data"):
        given = content.get(section)
        class_path = str(given.get("class_path", "")) if isinstance(given, dict) else ""
        for source in reversed(sources):
            for key in source.keys:
                name = short(key).removeprefix(f"{section}.")
                new = new_name(class_path, name) if name != short(key) else None
                if new is not None:
                    start = section if source.as_option else f"{section}.init_args"
                    raise UserError(
                        f"{source.source}: {source.spelled(key)}: renamed to {start}.{new}."
                    )
