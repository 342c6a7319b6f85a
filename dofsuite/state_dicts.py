"""State dicts, compared by the names and shapes of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Difference(NamedTuple):
    name: str
    # Its shapes; None where there is no weight of this name.
    here: list[int] | None
    there: list[int] | None


def first_difference(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Difference | None:
    """Return the first weight that differs, names before shapes; None where all are the same."""
    shapes_here, shapes_there = (
        {name: list(weight.shape) for name, weight in weights.items()} for weights in (here, there)
    )
    unmatched = sorted(shapes_here.keys() ^ shapes_there.keys())
    other_shape = [name for name in here if shapes_here[name] != shapes_there.get(name)]
    for name in (*unmatched, *other_shape):
        return Difference(name, shapes_here.get(name), shapes_there.get(name))
    return None
