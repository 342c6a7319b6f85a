"""Captions of the layered scenes: a closed vocabulary and one sentence form, for a small network.

    caption = "a" thing side "in front of" wall { ", a" thing side "behind" }
              (none to two further things)
    thing   = ( "red" | "yellow" | "green" | "blue" | "purple" | "white" )
              ( "disc" | "box" | "triangle" )
    side    = "on the left" | "in the middle" | "on the right"
    wall    = "bricks" | "grass" | "gravel" | "sand"

For example: "a red disc on the left in front of grass, a blue box in the middle behind". The first
thing is the nearest of the scene, the others follow from near to far. No two things of a caption
share a color or a side.
"""

from typing import NamedTuple

COLORS = ("red", "yellow", "green", "blue", "purple", "white")
SHAPES = ("disc", "box", "triangle")
SIDES = ("on the left", "in the middle", "on the right")
WALLS = ("bricks", "grass", "gravel", "sand")

# The vocabulary, in alphabetical order.
WORDS = tuple(
    sorted({"a", "in", "front", "of", "behind", *COLORS, *SHAPES, *WALLS, *" ".join(SIDES).split()})
)


class Named(NamedTuple):
    color: str
    shape: str
    side: str


def caption_of(things: list[Named], wall: str) -> str:
    """Return the caption of objects, from near to far, in front of a wall.

    >>> things = [Named("red", "disc", "on the left"), Named("blue", "box", "in the middle")]
    >>> caption_of(things, "grass")
    'a red disc on the left in front of grass, a blue box in the middle behind'
    """
    first, *further = (" ".join(("a", *thing)) for thing in things)
    return ", ".join([f"{first} in front of {wall}", *(f"{thing} behind" for thing in further)])
