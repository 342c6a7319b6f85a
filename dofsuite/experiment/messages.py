"""What the parser reports over a dozen lines, as a key and one sentence."""

import importlib
import pkgutil
import re
from dataclasses import dataclass, field
from traceback import walk_tb
from typing import Any, NamedTuple

from dofsuite.experiment.keys import near_name
from dofsuite.training.run.dotted_keys import flat


class Message(NamedTuple):
    # The dotted path that it is about; empty for a word that is no option at all.
    key: str
    reason: str
    is_unknown_key: bool = False


_UNKNOWN_KEY = re.compile(
    r"Group '(?P<group>[^']+)' does not accept option '(?P<nested>[^']+)'"
    r"|Option '(?P<option>[^']+)' is not accepted"
    r"|unrecognized arguments: --(?P<argument>[^\s=]+)"
)
_OTHER = {
    "stray": re.compile(r"unrecognized arguments: ([^-].*)"),
    "required": re.compile(r"the following arguments are required: (.+)"),
    "value": re.compile(r"argument --(\S+?): (.+)"),
}
_DENIED = re.compile(r"Importing '(([^'.]+)[^']*)' is not allowed")
_NO_SUCH_CLASS = re.compile(
    r"module '([^']+)' has no attribute '([^']+)'|No module named '([^']+)'"
)
_NOT_SUBCLASS = re.compile(r"Import path (\S+) does not correspond to a subclass of (\S+)")
_NULL_CLASS = re.compile(r"Not a valid subclass of (\S+)\. Got value: None")
_EXPECTED = re.compile(r"Expected an? (.+?)(?:\. Got value: (.*))?$")
_PARSER_KEY = re.compile(r'Parser key "([^"]+)":?\s*(.*)')
_CLASS = re.compile(r"Problem with given class_path '([^']+)':")
_GIVEN = re.compile(r"Given value: (.*)")
_NOISE = re.compile(r"Does not validate against|Subtypes:|Errors:|Given value type:|$")
_OTHER_TYPES = ("Not a valid subclass", "Expected a <class 'NoneType'>")


@dataclass
class _Scan:
    keys: list[str] = field(default_factory=list)
    class_path: str = ""
    reasons: list[str] = field(default_factory=list)
    given: str = ""


def read_message(message: str) -> Message:
    """Return the key that a message of the parser is about, and the reason in one sentence."""
    scan = _scan(message)
    key = ".".join(scan.keys)
    text = " \n".join(scan.reasons) or " ".join(message.split())

    # Keys and options.
    if match := _UNKNOWN_KEY.search(text):
        names = [name for name in match.groups() if name]
        return Message(".".join([*scan.keys, *names]), "no such key", True)
    if match := _OTHER["stray"].search(text):
        return Message("", f"{match[1]}: not understood; overrides are written --key value")
    if match := _OTHER["required"].search(text):
        return Message(match[1], "missing")
    if match := _OTHER["value"].search(text):
        return Message(match[1], match[2])

    # Classes.
    class_key = f"{key.removesuffix('.init_args')}.class_path"
    if match := _DENIED.search(text):
        reason = f"add --allow-import {match[2]} if you trust that package"
        return Message(class_key, f"{match[1]} may not be imported; {reason}")
    if match := _NOT_SUBCLASS.search(text):
        return Message(class_key, f"{match[1]} is not a {match[2]}")
    if match := _NULL_CLASS.search(text):
        return Message(key, f"expected a {match[1]}, got null")
    if match := _NO_SUCH_CLASS.search(text):
        class_path = scan.class_path or ".".join(filter(None, match.groups()))
        return Message(class_key, _no_such_class(class_path))

    # Values.
    matches = [_EXPECTED.match(reason) for reason in scan.reasons]
    if matches and all(matches):
        kinds = dict.fromkeys(_kind(match[1]) for match in matches if match)
        given = next((match[2] for match in matches if match and match[2] is not None), scan.given)
        got = "null" if given == "None" else repr(given)
        return Message(key, f"expected {' or '.join(kinds)}, got {got}")
    return Message(key, "; ".join(scan.reasons) or " ".join(message.split()))


def _scan(message: str) -> _Scan:
    """Walk down to the innermost reason; a class's own problem hides other types of its union."""
    scan = _Scan()
    for line in message.splitlines():
        text = line.strip().removeprefix("- ").strip()
        # One level further down.
        if match := _PARSER_KEY.match(text):
            scan.keys.append(match[1])
            text = match[2]
        if match := _CLASS.match(text):
            if scan.reasons and scan.class_path:
                break
            scan.class_path = match[1]
            scan.keys.append("init_args")
        elif match := _GIVEN.match(text):
            scan.given = scan.given or match[1]
        elif text.startswith(_OTHER_TYPES) and scan.class_path:
            break
        elif not _NOISE.match(text):
            scan.reasons.append(text)
    return scan


# A type as people write it.
def _kind(typehint: str) -> str:
    name = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", typehint)
    name = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", name)
    return "null" if name == "NoneType" else name


def _no_such_class(class_path: str) -> str:
    """Why a class path leads nowhere, and the near name where there is exactly one."""
    parts = class_path.split(".")
    for depth in range(1, len(parts)):
        parent, name = ".".join(parts[:depth]), parts[depth]
        names = _names_in(parent)
        if name not in names:
            near = near_name(name, names)
            meant = ".".join([parent, near, *parts[depth + 1 :]]) if near else ""
            return f"{parent} has no {name}" + (f"; did you mean {meant}?" if meant else "")
    return f"{class_path} cannot be imported"


def _names_in(module_name: str) -> set[str]:
    """Public names and submodules of a module that the parser may import."""
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        return set()
    submodules = {each.name for each in pkgutil.iter_modules(getattr(module, "__path__", []))}
    return {name for name in dir(module) if not name.startswith("_")} | submodules


def root_of(error: BaseException) -> BaseException:
    """What was raised first, where the parser has wrapped it in errors of its own."""
    while error.__cause__ is not None and raised_in(error).startswith("jsonargparse."):
        error = error.__cause__
    return error


def raised_in(error: BaseException) -> str:
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__", "") if frames else ""


def _is_number(value: Any, number: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == number


def key_named_in(reason: str, config: dict[str, Any]) -> str:
    """The key that a refused value's reason is about: the first named one that is unambiguous."""
    keys = flat(config)
    # torch names no key, but the number: "Invalid learning rate: -1.0".
    if match := re.search(r"(?:Invalid .*: |got \w+=)(-?[\d.e+-]+)$", reason):
        same = [key for key, value in keys.items() if _is_number(value, float(match[1]))]
        if len(same) == 1:
            return same[0]
    for dotted in re.findall(r"\w+(?:\.\w+)*", reason):
        for name in (dotted, *dotted.split(".")):
            named = [key for key in keys if f".{key}".endswith(f".{name}")]
            if len(named) == 1:
                return named[0]
    return "model"
