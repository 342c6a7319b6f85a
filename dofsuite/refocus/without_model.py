"""What needs no model and a refocus model has to beat: a uniform blur, the renderer as it is.

Convention: images are display values [b, 3, h, w] in [0, 1]; `width_px` as in `photograph`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.rendering import Rendering, photograph

# A uniform blur has the radius of a point whose disparity differs by as much from the focal plane.
UNIFORM_DISTANCE = 0.5


def uniform_blur(
    image: Float[Tensor, "b 3 h w"],
    width_px: Float[Tensor, "b"],
    camera: Cameras,
    rendering: Rendering,
) -> Float[Tensor, "b 3 h w"]:
    """Blur the whole image alike: it hears the level b and ignores point and depth.

    Its radius is b / 2 (*ours*): that of a pixel half the range of disparity from focus.
    """
    # Towards the middle of [0, 1], so that it stays in the range of disparities
    sign = torch.where(camera.focus_disparity > 0.5, -1.0, 1.0)
    plane = camera.focus_disparity + UNIFORM_DISTANCE * sign
    disparity = plane[:, None, None, None].expand(-1, 1, *image.shape[-2:])
    return photograph(image, disparity, width_px, [camera], rendering)[0]


def without_deblurring(
    reference: Float[Tensor, "b 3 h w"],
    disparity: Float[Tensor, "b 1 h w"],
    width_px: Float[Tensor, "b"],
    camera: Cameras,
    rendering: Rendering,
) -> Float[Tensor, "b 3 h w"]:
    """Render the reference as it is given, with the exact depth: what was blurred stays so."""
    return photograph(reference, disparity, width_px, [camera], rendering)[0]
