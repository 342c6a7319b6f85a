"""Photo scenes: two to six layers cut from real photographs and textures, at known depths.

A scene is all in focus, 128 px square, in display values. Its disparity is exact for every pixel:
each layer lies in one plane, `disparity(x, y) = at_origin + per_px_right * x + per_px_down * y` (x,
y: pixel column and row), and the map is min-max normalized over the whole scene (0 far, 1 near).
Foreground layers are fronto-parallel; the background may be slanted (*ours*). The edges of layers
are binary, so that no pixel mixes two depths.

Crops are reduced with antialiasing, never enlarged, and the most detailed of five draws is taken
(*ours*: in the smooth and defocused parts of the photographs neither blur nor focus would show).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from dofsuite.data.synthetic.photographs import photograph
from dofsuite.data.synthetic.shapes import draw_shape

SCENE_SIZE_PX = 128
MIN_DISPARITY_GAP = 0.12
MIN_VISIBLE_SHARE = 0.02
SLANTED_SHARE = 0.4


@dataclass(frozen=True)
class SceneRecipe:
    # Names of color photographs (see `photographs.PHOTOGRAPHS`).
    photographs: tuple[str, ...]
    # Names of gray textures, tinted when drawn.
    textures: tuple[str, ...]
    # Probability that a layer is cut from a texture.
    texture_share: float
    # Number of scenes.
    scenes: int
    # Every scene is a function of (seed, its number).
    seed: int
    # Whether a scene is cut from one photograph alone, each in turn.
    one_photograph: bool = False


class Layer(NamedTuple):
    """A layer: its photograph, its shape, and its disparity plane after normalization."""

    photograph: str
    shape: str
    at_origin: float
    per_px_right: float
    per_px_down: float

    def disparity(self, size_px: int = SCENE_SIZE_PX) -> np.ndarray:
        """Return the layer's disparity `[size, size]`, float64."""
        steps = np.arange(size_px)
        return (
            self.at_origin + self.per_px_right * steps[None, :] + self.per_px_down * steps[:, None]
        )


class Scene(NamedTuple):
    """`image_srgb` [128, 128, 3] uint8; `disparity` [128, 128] in [0, 1]; `layers` far to near."""

    image_srgb: np.ndarray
    disparity: np.ndarray
    layers: list[Layer]


def scenes(recipe: SceneRecipe, start: int = 0) -> Iterator[Scene]:
    """Yield the recipe's scenes from `start` on; each is a function of the seed and its number."""
    for number in range(start, recipe.scenes):
        if recipe.one_photograph:
            name = recipe.photographs[number % len(recipe.photographs)]
            of_one = replace(recipe, photographs=(name,))
            yield draw_scene(of_one, np.random.default_rng([recipe.seed, number]))
            continue
        yield draw_scene(recipe, np.random.default_rng([recipe.seed, number]))


def draw_scene(recipe: SceneRecipe, rng: np.random.Generator) -> Scene:
    """Draw one scene; arrangements in which a layer is almost hidden are drawn again."""
    # Planes, shapes and textures
    planes = _draw_planes(rng, layers=int(rng.integers(2, 7)))
    owner, shapes = _draw_arrangement(rng, len(planes))
    names, image = _paint(recipe, rng, owner, len(planes))
    layers = [
        Layer(name, shape, *plane) for name, shape, plane in zip(names, shapes, planes, strict=True)
    ]

    # Disparity, and the layers' planes, min-max normalized
    disparity = np.choose(owner, [layer.disparity() for layer in layers])
    low, high = float(disparity.min()), float(disparity.max())
    scale = 1.0 / (high - low)
    layers = [
        layer._replace(
            at_origin=(layer.at_origin - low) * scale,
            per_px_right=layer.per_px_right * scale,
            per_px_down=layer.per_px_down * scale,
        )
        for layer in layers
    ]
    return Scene(image, (disparity - low) * scale, layers)


# Return `(at_origin, per_px_right, per_px_down)` of each layer, far to near, unnormalized.
def _draw_planes(rng: np.random.Generator, layers: int) -> list[tuple[float, float, float]]:
    gaps = MIN_DISPARITY_GAP + rng.dirichlet(np.ones(layers - 1)) * (
        1 - MIN_DISPARITY_GAP * (layers - 1)
    )
    foreground = [(float(d), 0.0, 0.0) for d in np.cumsum(gaps)]
    if rng.random() >= SLANTED_SHARE:
        return [(0.0, 0.0, 0.0), *foreground]
    # The slope stays behind the nearest foreground layer by half a gap; the ground comes nearer
    # downwards.
    rise = rng.uniform(0.3, 1.0) * (gaps[0] - MIN_DISPARITY_GAP / 2) / (SCENE_SIZE_PX - 1)
    share_right = rng.uniform(-0.4, 0.4)
    right, down = rise * share_right, rise * (1 - abs(share_right))
    return [(max(0.0, -right) * (SCENE_SIZE_PX - 1), right, down), *foreground]


# Return the visible layer of each pixel `[128, 128]` (0: background), and the shapes.
def _draw_arrangement(rng: np.random.Generator, layers: int) -> tuple[np.ndarray, list[str]]:
    while True:
        owner, shapes = np.zeros((SCENE_SIZE_PX, SCENE_SIZE_PX), dtype=np.int64), ["frame"]
        for number in range(1, layers):
            shape, mask = draw_shape(rng, SCENE_SIZE_PX)
            owner[mask] = number
            shapes.append(shape)
        visible = np.bincount(owner.ravel(), minlength=layers) / owner.size
        if visible.min() >= MIN_VISIBLE_SHARE:
            return owner, shapes


# Return the layers' photographs and the image `[128, 128, 3]` uint8.
def _paint(
    recipe: SceneRecipe, rng: np.random.Generator, owner: np.ndarray, layers: int
) -> tuple[list[str], np.ndarray]:
    image, names = np.zeros((*owner.shape, 3), dtype=np.uint8), []
    for number in range(layers):
        is_texture = bool(recipe.textures) and rng.random() < recipe.texture_share
        pool = recipe.textures if is_texture else recipe.photographs
        name = pool[rng.integers(len(pool))]
        rows, columns = np.nonzero(owner == number)
        top, left = rows.min(), columns.min()
        crop = _crop(rng, name, int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
        image[rows, columns] = _recolor(rng, crop, is_texture)[rows - top, columns - left]
        names.append(name)
    return names, image


# Return the most detailed of five random crops, reduced 1 to 2.5 times (if large enough).
def _crop(rng: np.random.Generator, name: str, width_px: int, height_px: int) -> Image.Image:
    source = photograph(name)
    largest = min(source.width / width_px, source.height / height_px, 2.5)
    reduction = rng.uniform(min(1.3, largest), largest)
    wide, high = min(width_px * reduction, source.width), min(height_px * reduction, source.height)
    corners = rng.uniform(0, 1, size=(5, 2)) * [source.width - wide, source.height - high]
    left, top = max(corners, key=lambda corner: _detail(name, corner, wide, high))
    box = (left, top, min(left + wide, source.width), min(top + high, source.height))
    crop = source.resize((width_px, height_px), Image.Resampling.LANCZOS, box=box)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop


# Return the summed gradient of a photograph inside a box, by four look-ups.
def _detail(name: str, corner: np.ndarray, wide: float, high: float) -> float:
    table = _detail_table(name)
    left, top = (int(edge) for edge in corner)
    right, bottom = int(left + wide), int(top + high)
    return float(table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left])


# Return the summed-area table `[h + 1, w + 1]` of a photograph's absolute gray gradient.
@cache
def _detail_table(name: str) -> np.ndarray:
    gray = np.asarray(photograph(name).convert("L"), dtype=np.float64)
    gradient = np.abs(np.gradient(gray, axis=0)) + np.abs(np.gradient(gray, axis=1))
    return np.pad(gradient.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))


# Return the crop `[h, w, 3]` uint8 with a random gamma and a gain per channel.
def _recolor(rng: np.random.Generator, crop: Image.Image, tint: bool) -> np.ndarray:
    spread = 0.45 if tint else 0.15
    gain = 1 - spread * rng.random(3) if tint else 1 + rng.uniform(-spread, spread, 3)
    values = (np.arange(256) / 255) ** rng.uniform(0.8, 1.25)
    table = np.clip(np.rint(255 * gain[:, None] * values), 0, 255).astype(np.uint8)
    return np.asarray(crop.point(table.ravel().tolist()))
