"""Depth as a depth model would give it: soft at edges, and a little wrong.

All choices are *ours*: the papers train on a depth model's maps, whose true depth is not known.
"""

import numpy as np
from PIL import Image

# A quarter of the maps is exact, a quarter soft, the others soft and wrong.
EXACT_SHARE = 0.25
SOFT_SHARE = 0.25
LARGEST_SHIFT_PX = 2
LARGEST_DRIFT = 0.06


def given_depth(rng: np.random.Generator, disparity: np.ndarray) -> np.ndarray:
    """Return a map as a depth model might give it, min-max normalized like the exact one.

    Wrong maps have edges that lie up to 2 px from those of the image, near things that are a little
    too wide or too narrow, smooth errors of up to .06, and another spacing (a power of the
    disparity); soft ones change over a few pixels where the exact map has a step.

    Args:
        rng: Of all draws.
        disparity: [h, w] float32 in [0, 1], 0 far to 1 near.
    """
    draw = rng.random()
    if draw < EXACT_SHARE:
        return disparity
    given = disparity
    if draw >= EXACT_SHARE + SOFT_SHARE:
        # Edges at the wrong place
        given = _shifted(given, *rng.integers(-LARGEST_SHIFT_PX, LARGEST_SHIFT_PX + 1, size=2))
        widen = rng.integers(-1, 2)
        if widen:
            choose = np.maximum if widen > 0 else np.minimum
            for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                given = choose(given, _shifted(given, *step))
        # Wrong values
        drift = rng.uniform(-LARGEST_DRIFT, LARGEST_DRIFT, size=(4, 4)).astype(np.float32)
        given = given ** np.float32(rng.uniform(0.75, 1.35)) + _resized(drift, *given.shape)
    # Edges over a few pixels, as of a map that was enlarged
    height, width = given.shape
    factor = rng.uniform(1.5, 4)
    coarse = _resized(given, round(height / factor), round(width / factor))
    given = _resized(coarse, height, width)
    low, high = given.min(), given.max()
    return (given - low) / max(high - low, 1e-6)


def _shifted(values: np.ndarray, down: int, right: int) -> np.ndarray:
    padded = np.pad(values, LARGEST_SHIFT_PX, mode="edge")
    height, width = values.shape
    top, left = LARGEST_SHIFT_PX - down, LARGEST_SHIFT_PX - right
    return padded[top : top + height, left : left + width]


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
