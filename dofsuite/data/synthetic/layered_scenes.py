"""Layered scenes: one to three captioned objects on a floor before a wall, in focus, metric depth.

64 px square, display values, for training a small text-to-image network. Wall and floor are of one
material, the floor darker; the objects stand on the floor and face the camera. `captions.py`
defines their captions.

Depth is metric and follows one rule in every scene: the wall is 10 m away, the floor reaches 1 m at
the lowest row, and

    depth_m = 1 / (0.1 + 0.9 disparity)        disparity 0 at the wall, 1 at the lowest row

The floor's disparity is affine in the row, like a plane's in a pinhole camera. Every scene spans
the whole range, so `Batch.disparity` (min-max per image) is the disparity of this rule, and no
other field is needed for meters. An object's position on the floor shows its depth in the image,
and so does its size on average.

The edges of objects are binary: no pixel mixes two depths.
"""

from collections.abc import Iterator, Set
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from dofsuite.data.synthetic.captions import COLORS, SHAPES, SIDES, WALLS, Named, caption_of
from dofsuite.data.synthetic.textures import thing_surface, wall_surface

LAYERED_SIZE_PX = 64
NEAR_M, FAR_M = 1.0, 10.0
HORIZON = (0.42, 0.55)
NEAREST_DISPARITY = (0.5, 0.7)
FARTHEST_DISPARITY = 0.2
DISPARITY_GAP = 0.12
THING_COUNTS = (0.35, 0.4, 0.25)
CENTERS = {"on the left": (0.17, 0.29), "in the middle": (0.43, 0.57), "on the right": (0.71, 0.83)}
HALF_WIDTH_M = (0.23, 0.31)
MIN_VISIBLE_SHARE = 0.6


@dataclass(frozen=True)
class LayeredRecipe:
    """Number of scenes and seed; every scene is a function of (seed, its number)."""

    scenes: int
    seed: int


@dataclass(frozen=True)
class Thing:
    """An object: its name, its plane's disparity, center and half width as shares of the frame."""

    color: str
    shape: str
    side: str
    disparity: float
    center: float
    half_width: float


class LayeredScene(NamedTuple):
    """`image_srgb` [64, 64, 3] uint8; `disparity` [64, 64] in [0, 1]; `things` near to far."""

    image_srgb: np.ndarray
    disparity: np.ndarray
    caption: str
    things: list[Thing]

    # Return the objects for the sample's JSON, whose keys and checksums must not change.
    def record(self) -> list[dict[str, object]]:
        things = [asdict(thing) for thing in self.things]
        return [{"colour": thing.pop("color"), **thing} for thing in things]


def depth_m_of(disparity: np.ndarray | float) -> np.ndarray | float:
    """Return the depth in meters of a disparity: 0 is the wall at 10 m, 1 the lowest row at 1 m."""
    return 1.0 / (1 / FAR_M + (1 / NEAR_M - 1 / FAR_M) * disparity)


def layered_scenes(
    recipe: LayeredRecipe, held_out: Set[str] = frozenset(), start: int = 0
) -> Iterator[LayeredScene]:
    """Yield the scenes from `start` on; one whose caption is `held_out` is drawn again."""
    for number in range(start, recipe.scenes):
        rng = np.random.default_rng([recipe.seed, number])
        scene = draw_layered_scene(rng)
        while scene.caption in held_out:
            scene = draw_layered_scene(rng)
        yield scene


def draw_layered_scene(rng: np.random.Generator) -> LayeredScene:
    """Draw one scene; arrangements in which an object is mostly hidden are drawn again."""
    # Arrangement, wall and floor
    horizon_px = round(rng.uniform(*HORIZON) * LAYERED_SIZE_PX)
    things, owner = _draw_arrangement(rng, horizon_px)
    wall = WALLS[rng.integers(len(WALLS))]
    image = wall_surface(rng, wall, LAYERED_SIZE_PX, horizon_px)
    # The disparity of each row of wall and floor: 0, then linear to 1
    rise = (np.arange(LAYERED_SIZE_PX) - horizon_px + 1) / (LAYERED_SIZE_PX - horizon_px)
    disparity = np.repeat(np.clip(rise, 0.0, 1.0)[:, None], LAYERED_SIZE_PX, axis=1)

    # Texture and disparity of each object
    for number, thing in enumerate(things, start=1):
        rows, columns = np.nonzero(owner == number)
        top, left = rows.min(), columns.min()
        surface = thing_surface(rng, thing.color, int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
        image[rows, columns] = surface[rows - top, columns - left]
        disparity[rows, columns] = thing.disparity

    named = [Named(thing.color, thing.shape, thing.side) for thing in things]
    return LayeredScene(
        np.rint(image * 255).astype(np.uint8), disparity, caption_of(named, wall), things
    )


# Return the objects near to far and each pixel's object `[64, 64]` (0: none, 1: nearest).
def _draw_arrangement(rng: np.random.Generator, horizon_px: int) -> tuple[list[Thing], np.ndarray]:
    while True:
        things = _draw_things(rng)
        masks = [thing_mask(thing, horizon_px) for thing in things]
        owner = np.zeros((LAYERED_SIZE_PX, LAYERED_SIZE_PX), dtype=np.int64)
        for number, mask in reversed(list(enumerate(masks, start=1))):
            owner[mask] = number
        visible = [(owner == n).sum() / mask.sum() for n, mask in enumerate(masks, start=1)]
        if min(visible) >= MIN_VISIBLE_SHARE:
            return things, owner


# Return one to three objects from near to far, of different colors and sides.
def _draw_things(rng: np.random.Generator) -> list[Thing]:
    # Disparities: each keeps its distance from the one before it.
    count = 1 + int(rng.choice(len(THING_COUNTS), p=THING_COUNTS))
    disparities = [rng.uniform(*NEAREST_DISPARITY)]
    behind = np.sort(rng.uniform(FARTHEST_DISPARITY, 1.0, count - 1))[::-1]
    for number, share in enumerate(behind):
        least = FARTHEST_DISPARITY + DISPARITY_GAP * (count - 2 - number)
        disparities.append(least + share * (disparities[-1] - DISPARITY_GAP - least))

    # Name, size and position, in the order in which they are drawn
    colors, sides = rng.permutation(len(COLORS)), rng.permutation(len(SIDES))
    return [
        Thing(
            color=COLORS[color],
            side=SIDES[side],
            disparity=float(disparity),
            half_width=float(rng.uniform(*HALF_WIDTH_M) / float(depth_m_of(disparity))),
            shape=SHAPES[rng.integers(len(SHAPES))],
            center=float(rng.uniform(*CENTERS[SIDES[side]])),
        )
        for disparity, color, side in zip(disparities, colors, sides, strict=False)
    ]


def thing_mask(thing: Thing, horizon_px: int) -> np.ndarray:
    """Return an object's mask without occlusion, `[64, 64]` bool; its foot is at its disparity."""
    base = (horizon_px + thing.disparity * (LAYERED_SIZE_PX - horizon_px)) / LAYERED_SIZE_PX
    grid = (np.arange(LAYERED_SIZE_PX) + 0.5) / LAYERED_SIZE_PX
    up = (base - grid[:, None]) / thing.half_width  # 0 at its foot, 2 at its top
    across = np.abs(grid[None, :] - thing.center) / thing.half_width
    if thing.shape == "disc":
        return across**2 + (up - 1) ** 2 <= 1
    standing = (up >= 0) & (up <= 2)
    return standing & (across <= (0.9 if thing.shape == "box" else 1.1 * (1 - up / 2)))
