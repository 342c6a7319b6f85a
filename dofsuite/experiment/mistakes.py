"""One clear sentence for a mistake: what the parser reports over a dozen lines, as key and reason."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass, field
from typing import Any

from dofsuite.experiment.keys import keys_of_file, near_name

_PARSER_KEY = re.compile(r'Parser key "([^"]+)":?\s*(.*)')
_CLASS = re.compile(r"Problem with given class_path '([^']+)':")
_OPTION = re.compile(r"Option '([^']+)' is not accepted")
_GROUP_OPTION = re.compile(r"Group '([^']+)' does not accept option '([^']+)'")
_UNRECOGNISED = re.compile(r"unrecognized arguments: --([^\s=]+)")
_STRAY = re.compile(r"unrecognized arguments: ([^-].*)")
_REQUIRED = re.compile(r"the following arguments are required: (.+)")
_OPTION_VALUE = re.compile(r"argument --(\S+?): (.+)")
_DENIED = re.compile(r"Importing '([^']+)' is not allowed")
_NO_ATTRIBUTE = re.compile(r"module '([^']+)' has no attribute '([^']+)'")
_NO_MODULE = re.compile(r"No module named '([^']+)'")
_NOT_SUBCLASS = re.compile(r"Import path (\S+) does not correspond to a subclass of (\S+)")
_EXPECTED = re.compile(r"Expected an? (.+?)(?:\. Got value: (.*))?$")
_GIVEN = re.compile(r"Given value: (.*)")
_NOISE = re.compile(r"Does not validate against|Subtypes:|Errors:|Given value type:|$")


@dataclass
class Reading:
    """What one message of the parser says."""

    keys: list[str] = field(default_factory=list)
    class_path: str = ""
    reasons: list[str] = field(default_factory=list)
    given: str = ""
    union_depth: int = 0
    """How many keys lead to the class that is read."""

    @property
    def key(self) -> str:
        """The dotted path that the message is about."""
        return ".".join(self.keys)


def read_message(message: str) -> tuple[str, str, bool]:
    """The key, the reason in one sentence, and whether the reason is that the key does not exist."""
    reading = _scan(message)
    text = " \n".join(reading.reasons) or " ".join(message.split())
    if match := _GROUP_OPTION.search(text) or _OPTION.search(text) or _UNRECOGNISED.search(text):
        return ".".join([*reading.keys, *match.groups()]), "no such key", True
    if match := _STRAY.search(text):
        return "", f"{match[1]}: not understood; overrides are written --key value", False
    if match := _REQUIRED.search(text):
        return match[1], "missing", False
    if match := _OPTION_VALUE.search(text):
        return match[1], match[2], False
    class_key = f"{reading.key.removesuffix('.init_args')}.class_path"
    if match := _DENIED.search(text):
        package = match[1].split(".")[0]
        reason = f"{match[1]} may not be imported; add --allow-import {package} if you trust that package"
        return class_key, reason, False
    if match := _NOT_SUBCLASS.search(text):
        return class_key, f"{match[1]} is not a {match[2]}", False
    if match := _NO_ATTRIBUTE.search(text) or _NO_MODULE.search(text):
        return class_key, _no_such_class(reading.class_path or ".".join(match.groups())), False
    if reading.reasons and all(_EXPECTED.match(reason) for reason in reading.reasons):
        return reading.key, _expected(reading), False
    return reading.key, "; ".join(reading.reasons) or " ".join(message.split()), False


def _scan(message: str) -> Reading:
    """Walk down to the innermost reason; beside a class's own problem, the other types of its union say nothing."""
    reading = Reading()
    for line in message.splitlines():
        text = line.strip().removeprefix("- ").strip()
        if match := _PARSER_KEY.match(text):
            reading.keys.append(match[1])
            text = match[2]
        if match := _CLASS.match(text):
            if reading.reasons and reading.class_path:
                if not all(_OPTION.search(reason) for reason in reading.reasons):
                    break
                # A class of a union that has no such key: the next one is what was meant, and says
                # what is wrong.
                reading.reasons, reading.keys = [], reading.keys[: reading.union_depth]
            reading.class_path = match[1]
            reading.union_depth = len(reading.keys)
            reading.keys.append("init_args")
        elif match := _GIVEN.match(text):
            reading.given = reading.given or match[1]
        elif (
            text.startswith(("Not a valid subclass", "Expected a <class 'NoneType'>"))
            and reading.class_path
        ):
            break
        elif not _NOISE.match(text):
            reading.reasons.append(text)
    return reading


def _expected(reading: Reading) -> str:
    """What was expected, with the alternatives of a union gathered, and what was given."""
    matches = [_EXPECTED.match(reason) for reason in reading.reasons]
    kinds = [_kind(match[1]) for match in matches]
    given = next((match[2] for match in matches if match[2] is not None), reading.given)
    return f"expected {' or '.join(dict.fromkeys(kinds))}, got {given!r}"


def _kind(typehint: str) -> str:
    """A type as people write it."""
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
            meant = (
                f"; did you mean {'.'.join([parent, near, *parts[depth + 1 :]])}?" if near else ""
            )
            return f"{parent} has no {name}{meant}"
    return f"{class_path} cannot be imported"


def _names_in(module_name: str) -> set[str]:
    """The public names and submodules of a module that the parser has already imported, or may import."""
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        return set()
    submodules = {module.name for module in pkgutil.iter_modules(getattr(module, "__path__", []))}
    return {name for name in dir(module) if not name.startswith("_")} | submodules


def root_of(error: BaseException) -> BaseException:
    """What was raised first, where the parser has wrapped it in errors of its own."""
    while error.__cause__ is not None and raised_in(error).startswith("jsonargparse."):
        error = error.__cause__
    return error


def raised_in(error: BaseException) -> str:
    """The module whose code raised an error."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else traceback.tb_frame.f_globals.get("__name__", "")


def key_named_in(reason: str, config: dict[str, Any]) -> str:
    """The key that a refused value's reason is about: the first that it names, where only one key ends in that name."""
    keys = keys_of_file(config)
    for dotted in re.findall(r"\w+(?:\.\w+)*", reason):
        for name in (dotted, *dotted.split(".")):
            named = [key for key in keys if f".{key}".endswith(f".{name}")]
            if len(named) == 1:
                return named[0]
    return "model"
