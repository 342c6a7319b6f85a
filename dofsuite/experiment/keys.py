"""Keys of an experiment as dotted paths: which were given, where, and which one was meant."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dofsuite.training.run.dotted_keys import flat

SUGGESTION_CUTOFF = 0.75  # similarity from which a near name is suggested …
MARGIN = 0.1  # … if the next nearest is less similar by this much


@dataclass(frozen=True)
class ProvidedKeys:
    """The keys that one source gave: a file, a sweep line or the command line."""

    source: str
    keys: tuple[str, ...]
    # Whether a key is written `--key` in this source.
    as_option: bool

    def spelled(self, key: str) -> str:
        return f"--{key}" if self.as_option else key


def source_of(sources: Sequence[ProvidedKeys], key: str) -> tuple[ProvidedKeys, str]:
    """Return the source that gave a key (the one that wins), and the key as it is written there.

    A key that none gave belongs to the first source, the file.
    """
    wanted = short(key)
    for source in reversed(sources):
        for given in source.keys:
            if short(given) == wanted:
                return source, given
    for source in reversed(sources):
        for given in source.keys:
            if short(given).startswith(f"{wanted}.") or wanted.startswith(f"{short(given)}."):
                return source, given if source.as_option else key
    return sources[0], key


def short(key: str) -> str:
    """Return a key without `init_args` and `class_path`, which options may leave out."""
    return ".".join(part for part in key.split(".") if part not in ("init_args", "class_path"))


def keys_of_options(words: Sequence[str]) -> tuple[str, ...]:
    """The dotted paths that `--key value` or `--key=value` words set."""
    return tuple(
        word[2:].partition("=")[0].removesuffix("+")
        for word in words
        if word.startswith("--") and len(word) > 2
    )


def exists(resolved: dict[str, Any], key: str) -> bool:
    """Whether a key is part of the resolved experiment; it may leave out `init_args`."""
    node, rest = _innermost(resolved, key)
    # The parser itself checks what stands in a list; below a null, an override took the rest away.
    return not rest or isinstance(node, list) or node is None


def is_mapping(resolved: dict[str, Any], key: str) -> bool:
    """Whether a key's value is a mapping of the user's own keys, not the arguments of a class."""
    node, rest = _innermost(resolved, key)
    return not rest and isinstance(node, dict) and "class_path" not in node


def _innermost(resolved: dict[str, Any], key: str) -> tuple[Any, list[str]]:
    """Walk down as far as a key exists; return what is there, and the parts that lead further."""
    node: Any = resolved
    rest = key.split(".")
    while rest and rest[0] in (children := _children(node)):
        node = children[rest.pop(0)]
    return node, rest


def _children(node: Any) -> dict[str, Any]:
    if not isinstance(node, dict):
        return {}
    inner = node.get("init_args")
    return {**(inner if isinstance(inner, dict) else {}), **node}


def nearest(resolved: dict[str, Any], key: str) -> str | None:
    """The key that was meant by one that does not exist, or None where that is not sure.

    Sure means: one sibling is spelled nearly so and no other comes close, or exactly one key of the
    section ends in that name.
    """
    # A sibling spelled nearly so.
    node, rest = _innermost(resolved, key)
    siblings = [name for name in _children(node) if name not in ("class_path", "init_args")]
    if (name := near_name(rest[0], siblings)) is not None:
        return ".".join([*key.split(".")[: -len(rest)], name, *rest[1:]])
    # The same name elsewhere in the section.
    section = key.split(".")[0]
    paths = flat({section: resolved[section]}) if section in resolved else {}
    same_name = [path for path in paths if path.split(".")[-1] == rest[-1]]
    return same_name[0] if len(same_name) == 1 else None


def near_name(word: str, names: Iterable[str]) -> str | None:
    """Return the one name spelled nearly as `word`; None for none or more than one."""
    by_likeness = sorted(
        ((difflib.SequenceMatcher(None, word, name).ratio(), name) for name in set(names)),
        reverse=True,
    )
    if not by_likeness or by_likeness[0][0] < SUGGESTION_CUTOFF:
        return None
    if len(by_likeness) > 1 and by_likeness[1][0] > by_likeness[0][0] - MARGIN:
        return None
    return by_likeness[0][1]
