"""A photograph with measured depth that is there without a download."""

from pathlib import Path

import torch

from dofsuite.data.synthetic.motorcycle import motorcycle
from dofsuite.photography.photo import Photo
from dofsuite.photography.scene_depth import SceneDepth, scene_from_meters

EXAMPLE = Path("example:motorcycle")


def example_photo() -> tuple[Photo, SceneDepth]:
    """Return the Middlebury motorcycle, 741 x 500 px, and its depth in meters.

    Raises:
        UserError: scikit-image, which holds it, is not installed.
    """
    scene = motorcycle()
    image = torch.tensor(scene.image_srgb).permute(2, 0, 1).contiguous() / 255
    return Photo(image), scene_from_meters(scene.depth_m)
