"""Parser of the layered scenes' captions, to compare them with what is drawn."""

from __future__ import annotations

import re

from dofsuite.data.synthetic.captions import COLORS, SHAPES, SIDES, WALLS, Named

_THING = rf"a ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) ({'|'.join(SIDES)})"
_FIRST = re.compile(rf"{_THING} in front of ({'|'.join(WALLS)})")
_FURTHER = re.compile(rf"{_THING} behind")


def parse_caption(caption: str) -> tuple[list[Named], str]:
    """Return the things and the wall of a caption.

    Raises:
        ValueError: The sentence has another form, or another word, than the grammar.
    """
    first, *further = caption.split(", ")
    found = [_FIRST.fullmatch(first), *map(_FURTHER.fullmatch, further)]
    if not all(found) or len(found) > len(SIDES):
        raise ValueError(
            f"{caption!r} is no caption of the layered scenes; their grammar is {__name__}'s."
        )
    return [Named(*match.groups()[:3]) for match in found if match], found[0][4] if found[0] else ""
