"""YAML that is a tree of words and values, of a size that a person could have written."""

from typing import Any

import yaml

# Values of a file, aliases followed, and how deep they may be nested.
MOST_NODES = 20_000
DEEPEST = 50


class NotATreeError(yaml.YAMLError):
    """What of a text is not taken, with its line where it has one."""


def parse_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return what a user's YAML holds.

    Raises:
        YAMLError: It is not YAML, or no tree (`NotATreeError`): an alias stands inside what it
            names, aliases multiply to more than `MOST_NODES`, a key is a list or a mapping, or it
            is nested too deep.
    """
    try:
        _check_nodes(yaml.compose(text, Loader=loader))
        content = yaml.load(text, Loader=loader)
        _check_depth(content)
    except RecursionError:
        raise NotATreeError("nested too deep") from None
    return content


def _check_nodes(root: yaml.Node | None) -> None:
    # How many values each node is, aliases followed; None while it is being counted.
    sizes: dict[int, int | None] = {}

    def count(node: yaml.Node) -> int:
        line = node.start_mark.line + 1
        if id(node) in sizes:
            if (known := sizes[id(node)]) is None:
                raise NotATreeError(f"line {line}: an alias stands inside of what it names")
            return known
        sizes[id(node)] = None
        total = 1
        for child in _children(node):
            total += count(child)
            if total > MOST_NODES:
                raise NotATreeError(
                    f"line {line}: aliases multiply to more than {MOST_NODES} values"
                )
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
            raise NotATreeError(f"line {key.start_mark.line + 1}: a key has to be a word")
    return [child for pair in node.value for child in pair]


# Refuse what the parser's own recursion would fail on.
def _check_depth(node: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise RecursionError
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        _check_depth(child, depth + 1)
