"""What an experiment file may have Lightning's classes do: no function called, no file elsewhere.

A class of the trainer's section may be named freely, and some of them write where an argument says,
or call what an argument names. `--allow-import pytorch_lightning` lifts both.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dofsuite.errors import UserError
from dofsuite.experiment.keys import ProvidedKeys, source_of

ALLOWED_BY = "pytorch_lightning"
# Names of arguments that say where a class writes.
PLACE = re.compile(r"(.*_)?(dir|dirpath|path|filename|folder|root)")
# Places in the run folder, if they have no folder of their own.
OF_RUN_FOLDER = re.compile(r"(.*_)?filename|sub_dir")


def check_confined(sources: tuple[ProvidedKeys, ...], trainer: dict[str, Any]) -> None:
    """Check that what the trainer's section names stays in the run folder and calls nothing.

    Raises:
        UserError: An argument names a function, or a place outside of the run folder.
    """
    folder = Path(trainer["default_root_dir"]).absolute()
    for key, class_path, arguments in _classes(trainer, ("trainer",)):
        parameters = _parameters(class_path)
        for name, value in arguments.items():
            parameter = parameters.get(name)
            if value is None or (parameter and value == parameter.default):
                continue
            # A function that would be called
            where = f"{key}.init_args.{name}"
            if is_function(parameter):
                _refuse(sources, where, "a file may name no function to call")
            # A place outside
            if isinstance(value, str) and PLACE.fullmatch(name):
                place = folder / value if OF_RUN_FOLDER.fullmatch(name) else Path(value)
                if not _lies_in(place, folder):
                    reason = f"{value} lies outside of the run folder {trainer['default_root_dir']}"
                    _refuse(sources, where, reason)


def is_function(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and "Callable" in str(parameter.annotation)


def _refuse(sources: tuple[ProvidedKeys, ...], key: str, reason: str) -> None:
    source, given = source_of(sources, key)
    raise UserError(
        f"{source.source}: {source.spelled(given)}: {reason}; leave it out, or add --allow-import "
        f"{ALLOWED_BY} if you trust this file."
    )


def _lies_in(place: Path, folder: Path) -> bool:
    return place.absolute().resolve().is_relative_to(folder.resolve())


def _classes(node: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every class that is named below a section: its key, its path and its arguments."""
    if isinstance(node, list):
        for item in node:
            yield from _classes(item, keys)
    if not isinstance(node, dict):
        return
    if isinstance(class_path := node.get("class_path"), str):
        arguments = {**(node.get("init_args") or {}), **(node.get("dict_kwargs") or {})}
        yield ".".join(keys), class_path, arguments
    for name, value in node.items():
        yield from _classes(value, (*keys, name))


def _parameters(class_path: str) -> dict[str, inspect.Parameter]:
    module, _, name = class_path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    return dict(inspect.signature(found.__init__ if inspect.isclass(found) else found).parameters)
