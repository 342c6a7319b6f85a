"""What can be checked in an experiment file before heavy imports: syntax, doubled keys, shape."""

from pathlib import Path
from typing import Any

import yaml

from dofsuite.errors import UserError
from dofsuite.files import readable
from dofsuite.yaml_tree import NotATreeError, parse_yaml


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        line_of: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.value in line_of and key_node.tag != "tag:yaml.org,2002:merge":
                raise _DoubledKey(str(key_node.value), line_of[key_node.value], line)
            line_of[str(key_node.value)] = line
        return super().construct_mapping(node, deep)


class _DoubledKey(Exception):
    """A key, and the two lines that it stands on."""


def check_option(text: str) -> None:
    """Check that the value of an option is a tree.

    Raises:
        UserError: It is not, or nested too deep to be read.
    """
    try:
        parse_yaml(text)
    except NotATreeError as error:
        raise UserError(f"command line: {text[:40]!r}: {error}.") from None
    except yaml.YAMLError:
        return  # text, or what the parser says is wrong


def read_experiment_file(path: Path) -> dict[str, Any]:
    """The experiment file as plain values.

    Raises:
        UserError: The file is missing or not YAML, a key is written twice, or a section has not the
            shape it needs.
    """
    with readable(path):
        is_there = path.is_file()
    if not is_there:
        raise UserError(f"{path}: no such experiment file.")
    # Syntax.
    try:
        text = path.read_text(encoding="utf-8")
        content = parse_yaml(text, _StrictLoader)
    except NotATreeError as error:
        raise UserError(f"{path}: {error}.") from None
    except _DoubledKey as error:
        raise UserError(
            "{}: {}: written twice, in line {} and in line {}.".format(path, *error.args)
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "YAML"
        raise UserError(f"{path}: {where}: {error.problem}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]}).") from None
    # Shape.
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: an experiment file is a mapping with the keys model, data and trainer."
        )
    for key in ("trainer", "checkpoint"):
        if key in content and not isinstance(content[key], dict):
            raise UserError(
                f"{path}: {key}: expected keys and values below it, got {content[key]!r}."
            )
    _check_sections(path, content, ())
    return content


def _check_sections(path: Path, node: Any, parents: tuple[str, ...]) -> None:
    """Refuse empty `init_args`, on which the parser stumbles, and `dict_kwargs`, never checked."""
    if isinstance(node, list):
        for item in node:
            _check_sections(path, item, parents)
    if not isinstance(node, dict):
        return
    # Keys below, each with its path.
    for key, value in node.items():
        name = ".".join((*parents, str(key)))
        if not isinstance(key, str):
            raise UserError(f"{path}: {name}: a key has to be a word; put it in quotes.")
        if key == "init_args" and not isinstance(value, dict):
            raise UserError(
                f"{path}: {name}: expected keys and values below it; leave init_args out where "
                "there are none."
            )
        if key == "dict_kwargs":
            raise UserError(
                f"{path}: {name}: nothing would check these; name the arguments below init_args."
            )
        _check_sections(path, value, (*parents, str(key)))
