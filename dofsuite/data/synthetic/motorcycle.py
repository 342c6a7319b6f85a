"""The Middlebury motorcycle: a real photograph with measured metric depth, for evaluation only.

From D. Scharstein et al., High-resolution stereo datasets with subpixel-accurate ground truth, GCPR
2014, in the reduced form of `skimage.data.stereo_motorcycle` (its docstring states the
calibration).

    depth_m = baseline_m * focal_length_px / (disparity_px + doffs_px)
"""

import io
from typing import NamedTuple

import numpy as np

from dofsuite.data.synthetic.photographs import package_bytes, photograph

FOCAL_LENGTH_PX = 994.978
BASELINE_M = 0.193001
DOFFS_PX = 31.086


class Motorcycle(NamedTuple):
    """`image_srgb` [500, 741, 3] uint8; `depth_m` [500, 741], filled; `valid` [500, 741]."""

    image_srgb: np.ndarray
    depth_m: np.ndarray
    valid: np.ndarray


def motorcycle() -> Motorcycle:
    """Return the left image, its depth in meters and the mask of measured pixels (92.7 %).

    Unmeasured pixels are filled for rendering; metrics leave them out by `valid`.
    """
    # Stereo disparity `[500, 741]` in px; not finite if unmeasured
    with np.load(io.BytesIO(package_bytes("motorcycle_disp")), allow_pickle=False) as archive:
        disparity_px = archive["arr_0"].astype(np.float32)
    valid = np.isfinite(disparity_px)
    depth_m = BASELINE_M * FOCAL_LENGTH_PX / (fill_background(disparity_px, valid) + DOFFS_PX)
    return Motorcycle(np.asarray(photograph("motorcycle_left")), depth_m.astype(np.float32), valid)


def fill_background(disparity_px: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Fill each unmeasured pixel with the farther of its nearest measured neighbours in its row.

    What stereo cannot measure is mostly background that the other camera does not see (*ours*, the
    usual convention of stereo). A row without any measurement copies the row above it.
    """
    filled = np.where(valid, disparity_px, np.nan)
    columns = np.arange(filled.shape[1])
    for row, measured in enumerate(valid):
        # A row without measurements
        known = columns[measured]
        if not known.size:
            filled[row] = filled[row - 1] if row else np.nanmedian(disparity_px[valid])
            continue
        # The measured neighbors to the right and left of each pixel
        after = np.searchsorted(known, columns).clip(max=known.size - 1)
        before = (np.searchsorted(known, columns, side="right") - 1).clip(min=0)
        farther = np.minimum(filled[row, known[before]], filled[row, known[after]])
        filled[row, ~measured] = farther[~measured]
    return filled
