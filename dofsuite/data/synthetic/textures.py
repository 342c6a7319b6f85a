"""Surfaces of the layered scenes: crops of photographs and textures, made gray and colored.

A crop's gray values are normalized to one mean and contrast (*ours*: smooth parts of the
photographs would show neither blur nor focus), then multiplied by a color and a random brightness.
Values are display values in [0, 1].
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from dofsuite.data.synthetic.photographs import photograph

REDUCTIONS = (1.5, 3.0)


class WallMaterial(NamedTuple):
    """The photograph that a wall is cut from, the range of its reduction, and the wall's color."""

    photograph: str
    reductions: tuple[float, float]
    color: tuple[float, float, float]


# By the captions' names; sand is gravel from farther away.
WALL_MATERIALS = {
    "bricks": WallMaterial("brick", REDUCTIONS, (0.72, 0.47, 0.38)),
    "grass": WallMaterial("grass", REDUCTIONS, (0.47, 0.62, 0.30)),
    "gravel": WallMaterial("gravel", REDUCTIONS, (0.62, 0.60, 0.57)),
    "sand": WallMaterial("gravel", (5.5, 7.5), (0.84, 0.72, 0.50)),
}
THING_COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.95, 0.12, 0.10),
    "yellow": (1.00, 0.88, 0.10),
    "green": (0.05, 0.75, 0.25),
    "blue": (0.12, 0.30, 0.95),
    "purple": (0.65, 0.15, 0.80),
    "white": (1.00, 1.00, 1.00),
}
THING_PHOTOGRAPHS = ("brick", "gravel", "camera", "astronaut", "rocket")
FLOOR_LIGHT = 0.62
MEAN, CONTRAST = 0.75, 0.16
# Crops drawn for a wall; the most detailed is taken.
DRAWS = 4


def wall_surface(rng: np.random.Generator, wall: str, size_px: int, horizon_px: int) -> np.ndarray:
    """Return wall and floor `[size, size, 3]` float64: below the horizon the darker floor."""
    material = WALL_MATERIALS[wall]
    light = np.full((size_px, 1, 1), rng.uniform(0.85, 1.1))
    light[horizon_px:] *= FLOOR_LIGHT
    crops = [
        _crop(rng, material.photograph, size_px, size_px, material.reductions) for _ in range(DRAWS)
    ]
    gray = _normalize_contrast(
        max(crops, key=lambda crop: float(np.abs(np.diff(crop, axis=0)).sum()))
    )
    return np.clip(gray[..., None] * np.array(material.color) * light * 1.25, 0, 1)


def thing_surface(
    rng: np.random.Generator, color: str, width_px: int, height_px: int
) -> np.ndarray:
    """Return the texture of an object's bounding box, `[height, width, 3]` float64."""
    name = THING_PHOTOGRAPHS[rng.integers(len(THING_PHOTOGRAPHS))]
    gray = _normalize_contrast(_crop(rng, name, width_px, height_px, REDUCTIONS)) * rng.uniform(
        1.0, 1.25
    )
    return np.clip(gray[..., None] * np.array(THING_COLORS[color]), 0, 1)


# Return a random crop's gray values `[height, width]` in [0, 255], reduced, maybe flipped.
def _crop(
    rng: np.random.Generator,
    name: str,
    width_px: int,
    height_px: int,
    reductions: tuple[float, float],
) -> np.ndarray:
    source = photograph(name)
    reduction = min(rng.uniform(*reductions), source.width / width_px, source.height / height_px)
    wide, high = width_px * reduction, height_px * reduction
    left, top = rng.uniform(0, 1, 2) * [source.width - wide, source.height - high]
    box = (left, top, min(left + wide, source.width), min(top + high, source.height))
    crop = source.resize((width_px, height_px), Image.Resampling.LANCZOS, box=box)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(crop.convert("L"), dtype=np.float64)


# Bring gray values to the mean and contrast of all surfaces, in [0.2, 1].
def _normalize_contrast(gray: np.ndarray) -> np.ndarray:
    return np.clip(MEAN + CONTRAST * (gray - gray.mean()) / (gray.std() + 4.0), 0.2, 1.0)
