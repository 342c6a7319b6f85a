"""Depth models for images in NumPy, as packing and curation need them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dofsuite.images import minmax_normalize, resize
from dofsuite.photography.scene_depth import DepthEstimator

# The depth network that comes with the package, and the side that it was trained at.
PACKAGED, PACKAGED_PX = "packaged", 64


def load_depth_model(path: str | None) -> Callable[[np.ndarray], np.ndarray]:
    """Load a depth model: display values [h, w, 3] to disparity [h, w] in [0, 1].

    Args:
        path: As for `DepthEstimator`; `packaged`, the small network that comes with dofsuite, which
            was trained on drawn scenes and whose depth of photographs was not measured.

    Raises:
        UserError: It cannot be loaded.
    """
    if path == PACKAGED:
        return _packaged()
    estimate = DepthEstimator(path)
    _ = estimate.model  # now, so that a missing one is said once

    def predict(image_srgb: np.ndarray) -> np.ndarray:
        disparity = estimate(torch.from_numpy(image_srgb).permute(2, 0, 1)).disparity
        return np.asarray(disparity[0, 0])

    return predict


def _packaged() -> Callable[[np.ndarray], np.ndarray]:
    from dofsuite.backbones import SmallDepth

    network = SmallDepth().load()

    @torch.no_grad()
    def predict(image_srgb: np.ndarray) -> np.ndarray:
        image: Tensor = torch.from_numpy(image_srgb).permute(2, 0, 1)[None]
        height, width = image.shape[-2:]
        # Whole patches, about the size of its training
        scale = PACKAGED_PX / min(height, width)
        rows, columns = (max(1, round(side * scale / 8)) * 8 for side in (height, width))
        disparity = minmax_normalize(1 / network(resize(image, rows, columns, mode="bilinear")))
        full_size = minmax_normalize(resize(disparity, height, width, mode="bilinear"))
        return np.asarray(full_size[0, 0])

    return predict
