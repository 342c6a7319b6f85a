"""Pairs of the settings of a sweep [batch, settings, 3, h, w]."""

from itertools import combinations
from typing import Literal

# Which settings are compared: adjacent, all, or all with the first or with the last.
Pairs = Literal["adjacent", "all", "first", "last"]


def setting_pairs(num_settings: int, pairs: Pairs) -> tuple[list[int], list[int]]:
    """Earlier and later setting of every pair.

    Example:
        >>> setting_pairs(3, "all")
        ([0, 0, 1], [1, 2, 2])
    """
    last = num_settings - 1
    kept = {
        "adjacent": [(i, i + 1) for i in range(last)],
        "all": list(combinations(range(num_settings), 2)),
        "first": [(0, j) for j in range(1, num_settings)],
        "last": [(i, last) for i in range(last)],
    }[pairs]
    return [i for i, _ in kept], [j for _, j in kept]
