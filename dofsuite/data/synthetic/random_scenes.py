"""Random scenes to train restoration and refocusing on: any size, without a limit of their number.

Three kinds, each all in focus, in display values, with the exact disparity of each pixel and with
depth as a model might give it:

    photographs    two to six layers cut from photographs
    textures       the same from procedural textures: noise, stripes, checks, letters, lights
    dead_leaves    hundreds of discs, polygons and strokes with power-law sizes, p(r) ~ r^-3, that
                   cover one another (Lee, Mumford and Huang 2001), filled with colors of the
                   photographs, with shading, or with crops; known to train restoration networks
                   nearly as well as photographs do (Achddou et al. 2021)

Unlike in `photo_scenes`, edges are antialiased, so that scenes look as a camera samples them; a
mixed pixel has the depth of one of its layers. Layers are painted from far to near and may be
slanted. Nothing is cut from coffee, Chelsea and the motorcycle, which are held out.
"""

from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dofsuite.data.synthetic.given_depth import given_depth
from dofsuite.data.synthetic.random_surfaces import (
    photograph_colors,
    photograph_crop,
    shading,
    texture,
)

KINDS = ("photographs", "textures", "dead_leaves")
# Samples of a pixel's side that are averaged.
SAMPLES = 2
# Sizes of leaves: radius in px of the smallest, share of the frame's side of the largest.
SMALLEST_LEAF_PX, LARGEST_LEAF = 2.5, 0.4
# Leaves of a frame of 128 px square; larger ones have more.
LEAVES = (40, 300)
STROKE_SHARE = 0.2
# Background, shading, crops.
SURFACES_OF_LEAVES = 4
FLAT_SHARE, SLANTED_SHARE = 0.5, 0.5


@dataclass(frozen=True)
class SceneShares:
    """How often each kind of scene is drawn; only the ratios matter (*ours*: a third each)."""

    photographs: float = 1.0
    textures: float = 1.0
    dead_leaves: float = 1.0

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0 or sum(astuple(self)) <= 0:
            raise ValueError(f"shares: 0 or above are expected, and one above 0, not {self}")


class RandomScene(NamedTuple):
    """A scene.

    Attributes:
        all_in_focus: [3, h, w] float32 display values in [0, 1].
        disparity: [1, h, w] float32, 0 far to 1 near, exact: what blur is rendered by.
        given_disparity: [1, h, w] float32: the same, soft or wrong: what a network is given.
        kind: One of `KINDS`.
    """

    all_in_focus: Tensor
    disparity: Tensor
    given_disparity: Tensor
    kind: str


class Layers(NamedTuple):
    """Layers from far to near; layer 0 is the whole frame.

    `outlines`: polygons [points, 2] (x, y) in px of all layers but the first. `surfaces`: [m, size,
    size, 3]; `surface_of`: [n] indices of them; `gain`: [n, 3] factors of their values.
    """

    outlines: list[np.ndarray]
    surfaces: np.ndarray
    surface_of: np.ndarray
    gain: np.ndarray


def random_scene(
    seed: int, number: int, size_px: int = 128, shares: SceneShares = SceneShares()
) -> RandomScene:
    """Draw a square scene, a function of its arguments alone."""
    rng = np.random.default_rng([seed, number])
    weights = np.array(astuple(shares))
    kind = KINDS[rng.choice(len(KINDS), p=weights / weights.sum())]
    layers = _leaves(rng, size_px) if kind == "dead_leaves" else _large(rng, size_px, kind)
    owner = _painted(layers.outlines, size_px)
    image = _averaged(layers, owner, size_px)
    disparity = _disparity(rng, owner[::SAMPLES, ::SAMPLES], len(layers.gain))
    given = given_depth(rng, disparity)
    return RandomScene(
        torch.from_numpy(image).permute(2, 0, 1).contiguous(),
        torch.from_numpy(disparity)[None],
        torch.from_numpy(np.ascontiguousarray(given))[None],
        kind,
    )


# Two to six layers, each with a surface of its own.
def _large(rng: np.random.Generator, size_px: int, kind: str) -> Layers:
    count = int(rng.integers(2, 7))
    draw = photograph_crop if kind == "photographs" else texture
    surfaces = np.stack([draw(rng, size_px) for _ in range(count)])
    outlines = [_outline(rng, size_px, size_px * rng.uniform(0.1, 0.34)) for _ in range(count - 1)]
    return Layers(outlines, surfaces, np.arange(count), np.ones((count, 3), dtype=np.float32))


def _leaves(rng: np.random.Generator, size_px: int) -> Layers:
    # Surfaces: a background, shading, crops or textures
    crops = [
        (photograph_crop if rng.random() < 0.6 else texture)(rng, size_px)
        for _ in range(SURFACES_OF_LEAVES - 2)
    ]
    background = (photograph_crop if rng.random() < 0.5 else shading)(rng, size_px)
    surfaces = np.stack([background, shading(rng, size_px), *crops])

    # Sizes by the inverse of p(r) ~ r^-3's distribution
    low, high = LEAVES
    count = int(low * (high / low) ** rng.random() * (size_px / 128) ** 2) + 1
    least, most = SMALLEST_LEAF_PX**-2, max(size_px * LARGEST_LEAF, 2 * SMALLEST_LEAF_PX) ** -2
    radii_px = (least + rng.random(count) * (most - least)) ** -0.5
    outlines = [
        _stroke(rng, size_px) if is_stroke else _outline(rng, size_px, radius_px)
        for is_stroke, radius_px in zip(
            rng.random(count) < STROKE_SHARE, radii_px.tolist(), strict=True
        )
    ]

    # Fills: a color with or without shading, or a crop
    gain = np.concatenate([np.ones((1, 3), dtype=np.float32), photograph_colors(rng, count)])
    surface_of = rng.integers(2, SURFACES_OF_LEAVES, size=count + 1)
    is_flat = rng.random(count + 1) < FLAT_SHARE
    surface_of[is_flat] = 1
    surface_of[0] = 0
    gain[~is_flat] = 1
    return Layers(outlines, surfaces, surface_of, gain.astype(np.float32))


# A disc, an ellipse, a blob or a polygon: points around a center.
def _outline(rng: np.random.Generator, size_px: int, radius_px: float) -> np.ndarray:
    # Corners on a circle
    kind = rng.random()
    center = rng.uniform(0, size_px, size=2)
    corners = 4 * int(2 + min(radius_px, 30) ** 0.5) if kind < 0.6 else int(rng.integers(3, 8))
    angles = 2 * np.pi / corners * (np.arange(corners) + rng.random())
    reach = np.full(corners, radius_px)
    if 0.3 <= kind < 0.6:  # a blob
        for harmonic in (2, 3, 4):
            phase = rng.uniform(0, 2 * np.pi)
            reach *= 1 + rng.uniform(0, 0.6 / harmonic) * np.cos(harmonic * angles + phase)
    elif kind >= 0.6:  # a polygon, not regular
        reach *= rng.uniform(0.5, 1, size=corners)
    # Squeezed and turned
    squeeze = rng.uniform(0.5, 1) if kind >= 0.15 else 1.0
    turn = rng.uniform(0, np.pi)
    along, across = reach * np.cos(angles), squeeze * reach * np.sin(angles)
    cos, sin = np.cos(turn), np.sin(turn)
    points = np.empty((corners, 2))
    points[:, 0] = center[0] + along * cos - across * sin
    points[:, 1] = center[1] + along * sin + across * cos
    return points


# A straight stroke, .7 to 4 px wide, as of twigs, hair and wires.
def _stroke(rng: np.random.Generator, size_px: int) -> np.ndarray:
    start = rng.uniform(0, size_px, size=2)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]]) * 0.35 * 6 ** rng.random()
    end = start + along * size_px * rng.uniform(0.05, 0.6)
    return np.stack([start - across, start + across, end + across, end - across])


# The nearest layer's number at SAMPLES x SAMPLES points of each pixel.
def _painted(outlines: list[np.ndarray], size_px: int) -> np.ndarray:
    owner = Image.new("I", (size_px * SAMPLES, size_px * SAMPLES))
    draw = ImageDraw.Draw(owner)
    for number, outline in enumerate(outlines, start=1):
        draw.polygon((outline * SAMPLES).ravel().tolist(), fill=number)
    return np.asarray(owner)


# The mean over each pixel's samples of its layers' values, [size, size, 3] float32 in [0, 1].
def _averaged(layers: Layers, owner: np.ndarray, size_px: int) -> np.ndarray:
    samples = [owner[y::SAMPLES, x::SAMPLES] for y in range(SAMPLES) for x in range(SAMPLES)]
    rows, columns = (np.arange(size_px)[:, None], np.arange(size_px)[None, :])
    image = _values(layers, samples[0], rows, columns)
    # Pixels on an edge
    is_mixed = np.logical_or.reduce([sample != samples[0] for sample in samples[1:]])
    rows, columns = np.nonzero(is_mixed)
    for sample in samples[1:]:
        image[rows, columns] += _values(layers, sample[rows, columns], rows, columns)
    image[rows, columns] /= len(samples)
    return np.clip(image, 0, 1)


def _values(
    layers: Layers, number: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    return layers.surfaces[layers.surface_of[number], rows, columns] * layers.gain[number]


# Planes from far to near, of which some are slanted; min-max normalized, [size, size] float32.
def _disparity(rng: np.random.Generator, owner: np.ndarray, count: int) -> np.ndarray:
    # Disparity at the center, and its change over the frame
    at_center = np.sort(rng.random(count)) + 0.1 * (np.arange(count) > 0)
    slope = rng.uniform(-0.3, 0.3, size=(count, 2)) * (rng.random((count, 1)) < SLANTED_SHARE)
    if count > 6:
        slope[1:] *= 0.2
    steps = np.arange(len(owner)) / len(owner) - 0.5
    disparity = at_center[owner] + slope[owner, 0] * steps[:, None] + slope[owner, 1] * steps
    # A scene whose layers are hidden may be flat
    low, high = disparity.min(), disparity.max()
    return ((disparity - low) / max(high - low, 1e-6)).astype(np.float32)
