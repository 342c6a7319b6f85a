"""Object-like binary shapes `[size, size]`: ellipses, blobs and polygons.

Convention: pixel (row, column) is tested at its center; positions and radii are fractions of the
frame.
"""

import numpy as np

SHAPES = ("ellipse", "blob", "polygon")


def draw_shape(rng: np.random.Generator, size_px: int) -> tuple[str, np.ndarray]:
    """Draw a shape of random position, size and outline; return its name and mask."""
    kind = SHAPES[rng.integers(len(SHAPES))]
    center = rng.uniform(0.12, 0.88, size=2)
    radius = rng.uniform(0.13, 0.34)
    grid = (np.arange(size_px) + 0.5) / size_px
    down, right = grid[:, None] - center[0], grid[None, :] - center[1]
    outline = {"ellipse": _ellipse, "blob": _blob, "polygon": _polygon}[kind]
    return kind, outline(rng, down, right, radius)


def _ellipse(
    rng: np.random.Generator, down: np.ndarray, right: np.ndarray, radius: float
) -> np.ndarray:
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.55, 1.0)
    along = down * np.sin(angle) + right * np.cos(angle)
    across = down * np.cos(angle) - right * np.sin(angle)
    return (along / radius) ** 2 + (across / (radius * stretch)) ** 2 <= 1


# A closed curve whose radius is one plus a few harmonics of the angle: smooth, not convex.
def _blob(
    rng: np.random.Generator, down: np.ndarray, right: np.ndarray, radius: float
) -> np.ndarray:
    angle = np.arctan2(down, right)
    reach = np.ones_like(angle)
    for harmonic in (2, 3, 4, 5):
        reach += rng.uniform(0, 0.5 / harmonic) * np.cos(
            harmonic * angle + rng.uniform(0, 2 * np.pi)
        )
    return np.hypot(down, right) <= radius * reach


# A convex polygon: the half planes of three to seven sides around the center.
def _polygon(
    rng: np.random.Generator, down: np.ndarray, right: np.ndarray, radius: float
) -> np.ndarray:
    sides = int(rng.integers(3, 8))
    even = 2 * np.pi * (np.arange(sides) + rng.uniform(-0.2, 0.2, sides)) / sides
    angles = even + rng.uniform(0, 2 * np.pi)
    inside = np.ones(np.broadcast_shapes(down.shape, right.shape), dtype=bool)
    for angle, reach in zip(angles, rng.uniform(0.7, 1.0, sides) * radius, strict=True):
        inside &= down * np.sin(angle) + right * np.cos(angle) <= reach
    return inside
