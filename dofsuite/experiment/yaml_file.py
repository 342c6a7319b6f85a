"""What can be checked in an experiment file before heavy imports: syntax, doubled keys, shape."""

from pathlib import Path
from typing import Any

import yaml

from dofsuite.errors import UserError

# Values of a file, aliases followed, and how deep they may be nested.
MOST_NODES = 20_000
DEEPEST = 50


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


class _Refused(Exception):
    """What of a file is not taken, and its line."""


def check_nodes(root: yaml.Node | None) -> None:
    """Check that YAML is a tree of words and values, of a size that a person could have written.

    Raises:
        _Refused: An alias stands inside what it names, aliases multiply to more than `MOST_NODES`,
            or a key is a list or a mapping.
    """
    # How many values each node is, aliases followed; None while it is being counted.
    sizes: dict[int, int | None] = {}

    def count(node: yaml.Node) -> int:
        line = node.start_mark.line + 1
        if id(node) in sizes:
            if (known := sizes[id(node)]) is None:
                raise _Refused(f"line {line}: an alias stands inside of what it names")
            return known
        sizes[id(node)] = None
        total = 1
        for child in _children(node):
            total += count(child)
            if total > MOST_NODES:
                raise _Refused(f"line {line}: aliases multiply to more than {MOST_NODES} values")
        sizes[id(node)] = total
        return total

    # An empty file has no root
    if root is not None:
        count(root)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _Refused(f"line {key.start_mark.line + 1}: a key has to be a word")
    return [child for pair in node.value for child in pair]


def check_option(text: str) -> None:
    """Check the value of an option as `check_nodes` does.

    Raises:
        UserError: It is refused, or nested too deep to be read.
    """
    try:
        check_nodes(yaml.compose(text, Loader=yaml.SafeLoader))
    except _Refused as error:
        raise UserError(f"command line: {text[:40]!r}: {error}.") from None
    except RecursionError:
        raise UserError(f"command line: {text[:40]!r}: nested too deep.") from None
    except yaml.YAMLError:
        return  # text, or what the parser says is wrong


def read_experiment_file(path: Path) -> dict[str, Any]:
    """The experiment file as plain values.

    Raises:
        UserError: The file is missing or not YAML, a key is written twice, or a section has not the
            shape it needs.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such experiment file.")
    # Syntax.
    try:
        text = path.read_text(encoding="utf-8")
        check_nodes(yaml.compose(text, Loader=_StrictLoader))
        content = yaml.load(text, Loader=_StrictLoader)
        _check_depth(content)
    except _Refused as error:
        raise UserError(f"{path}: {error}.") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deep.") from None
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


def _check_depth(node: Any, depth: int = 0) -> None:
    """Refuse what the parser's own recursion would fail on."""
    if depth > DEEPEST:
        raise RecursionError
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        _check_depth(child, depth + 1)


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
