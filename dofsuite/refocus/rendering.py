"""Photographs of an all-in-focus picture: the pairs that DiffCamera trains on, rendered where the model trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.optics import DisparityLayers, display_to_linear, linear_to_display
from dofsuite.refocus.cameras import Cameras


@dataclass(frozen=True)
class Rendering:
    """How bokeh is rendered. Paper: BokehMe, which half and settings it does not say. Here: its classical renderer."""

    gamma: float = 4.0
    """Display value to light, image ** gamma (*inferred*: BokehMe's default; 2.2 is nearer to a display's)."""
    layers: int = 61
    """Layers over disparity; more are more exact (see `dofsuite.optics.DisparityLayers`)."""
    reference_width_px: float = 512.0
    """Long side at which a level is pixels of radius per unit of disparity (*inferred*: the first stage's size); an
    image of another size gets the same look."""

    def __post_init__(self) -> None:
        if self.gamma <= 0 or self.layers < 2 or self.reference_width_px <= 0:
            raise ValueError("gamma and reference_width_px must be above 0 and layers 2 or more")


def input_width_px(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Return the long side, in px, of the pictures that a model sees: the width at which it is told its levels.

    A level counts at the long side of a picture. Were that the frame's from which a training square
    was cropped, one blur in one square would have another level for every frame it may come from,
    and a network cannot see the frame. So it is the square's (*ours*; the paper shows squares
    only): whatever it was cropped from, the camera token has the levels that were drawn, 1 to 20,
    as it has at inference, which never crops.
    """
    return torch.full((len(image),), float(max(image.shape[-2:])), device=image.device)


@torch.no_grad()
def photograph(
    image: Float[Tensor, "b 3 h w"],
    disparity: Float[Tensor, "b 1 h w"],
    width_px: Float[Tensor, "b"],
    cameras: Sequence[Cameras],
    rendering: Rendering,
) -> list[Float[Tensor, "b 3 h w"]]:
    """Render one picture a camera of every sample; the layers' spectra are shared by all cameras.

    Args:
        image: All in focus, display values in [0, 1].
        disparity: 0 far to 1 near.
        width_px: Long side of the picture that the levels are of, at the scale given; see
            `input_width_px`.
        cameras: Focal plane and bokeh level of every sample; level 0 gives the image itself, bit
            for bit.
        rendering: Gamma, layers and reference width.
    """
    levels = torch.stack([camera.bokeh_level for camera in cameras])
    largest_radius_px = float((levels * width_px).max()) / rendering.reference_width_px
    image_linear = display_to_linear(image.float(), rendering.gamma)
    layers = DisparityLayers(
        image_linear, disparity, rendering.layers, largest_radius_px=largest_radius_px
    )
    pictures = []
    for camera in cameras:
        light = layers.render(
            camera.bokeh_level, camera.focus_disparity, width_px, rendering.reference_width_px
        )
        picture = linear_to_display(light, rendering.gamma).clamp(0, 1)
        pictures.append(torch.where(camera.bokeh_level[:, None, None, None] > 0, picture, image))
    return pictures
