"""What torch's optimizers refuse of their numbers, asked before there are data and weights."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any


def refused_numbers(node: Any, parents: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield the key and reason of every optimizer of an experiment that refuses its numbers.

    Args:
        node: The resolved experiment, or a part of it.
        parents: Keys that lead to it.
    """
    if isinstance(node, list):
        for item in node:
            yield from refused_numbers(item, parents)
    if not isinstance(node, dict):
        return
    if str(node.get("class_path")).startswith("torch.optim."):
        arguments = node.get("init_args") or {}
        if (reason := _refused(node["class_path"], arguments)) is not None:
            # Of the argument without which the default is taken, and not refused
            for name in arguments:
                others = {key: value for key, value in arguments.items() if key != name}
                if _refused(node["class_path"], others) != reason:
                    yield ".".join([*parents, "init_args", name]), reason
    for name, value in node.items():
        yield from refused_numbers(value, (*parents, name))


def _refused(class_path: str, arguments: Mapping[str, Any]) -> str | None:
    from torch import nn, optim, zeros

    module, _, name = class_path.rpartition(".")
    optimizer = getattr(importlib.import_module(module), name)
    if not issubclass(optimizer, optim.Optimizer):
        return None
    # Of one weight; only what it says of a number counts
    try:
        optimizer([nn.Parameter(zeros(1, 1))], **arguments)
    except ValueError as error:
        return " ".join(str(error).split()).removesuffix(".")
    except (TypeError, RuntimeError):
        return None
    return None
