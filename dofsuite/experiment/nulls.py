"""`null` in overrides and files: as a value at any depth, and refused where a key does not take it.

jsonargparse hands an override down one class at a time as text, so that below the first class a
null arrives as the word "None". As content of a file it arrives as null. And jsonargparse checks no
null at all, since it stands for "not given" too, unless told that something else does.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from jsonargparse import set_parsing_settings

from dofsuite.yaml_tree import parse_yaml


def nulls_as_content(words: Sequence[str]) -> list[str]:
    """Return options with those that hold a null rewritten as content of an experiment file.

    >>> nulls_as_content(["--model.lens", "null", "--model.seed", "1"])
    ['--config', '{"model": {"lens": null}}', '--model.seed', '1']
    """
    rewritten = []
    for key, option in _options(words):
        value = _value_of(option)
        # One level down a null is understood; a list's own `+` has no such form.
        if "." in key and not key.endswith("+") and _holds_null(value):
            for part in reversed(key.split(".")):
                value = {part: value}
            option = ["--config", json.dumps(value)]
        rewritten += option
    return rewritten


def sections_with_null(content: Mapping[str, Any], words: Sequence[str]) -> set[str]:
    """Return the sections of an experiment for which a file or an option gives a null."""
    given = {key.split(".")[0] for key, option in _options(words) if _holds_null(_value_of(option))}
    return given | {str(section) for section, value in content.items() if _holds_null(value)}


@contextmanager
def null_is_a_value() -> Iterator[None]:
    """Make jsonargparse check nulls like other values."""
    set_parsing_settings(unset_sentinel=True)
    try:
        yield
    finally:
        set_parsing_settings(unset_sentinel=False)


# Each option's key, with the words that it consists of; words before the first have no key.
def _options(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    option: list[str] = []
    for word in words:
        if word.startswith("--") and option:
            yield option[0][2:].partition("=")[0], option
            option = []
        option.append(word)
    if option:
        yield option[0][2:].partition("=")[0], option


def _value_of(option: Sequence[str]) -> Any:
    """The value of `--key value` or `--key=value`; not a null where it is not written so."""
    text = option[1] if len(option) == 2 else option[0].partition("=")[2]
    if len(option) > 2 or not option[0].startswith("--") or not text.strip():
        return text
    try:
        return parse_yaml(text)
    except yaml.YAMLError:
        return text


def _holds_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_null(child) for child in value.values())
    if isinstance(value, list):
        return any(_holds_null(child) for child in value)
    return value is None
