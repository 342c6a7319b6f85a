"""DiffCamera's training pairs: photographs rendered from an all-in-focus image, on the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.optics import (
    DisparityLayers,
    bokeh_radius_px,
    display_to_linear,
    linear_to_display,
    render_bokeh,
)
from dofsuite.refocus.cameras import Cameras

# `layered` is BokehMe's classical scatter, `occlusion` has the background visible past an edge.
Method = Literal["layered", "occlusion"]


@dataclass(frozen=True)
class Rendering:
    """How bokeh is rendered.

    Paper: BokehMe, without saying which half of it and with which settings. Here: its classical
    renderer, or layers of depth that hide each other, which is what its neural half learned.
    """

    gamma: float = 4.0
    """Display value to linear light, image ** gamma (*inferred*: BokehMe's default; a display has
    about 2.2)."""
    layers: int = 61
    """Layers over disparity; more are more exact (see `dofsuite.optics.DisparityLayers`)."""
    reference_width_px: float = 512.0
    """Long side at which a bokeh level is pixels of radius per unit of disparity (*inferred*: the
    first stage's size); images of another size get the same relative blur."""
    method: Method = "layered"
    """`layered`, the classical renderer: light bleeds over edges, and all cameras of an image share
    its `layers`. Or `occlusion` (*ours*), without bleeding: each camera costs a rendering of its
    own, with as many layers as its radii take."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method must be {' or '.join(get_args(Method))}, not {self.method!r}")
        if self.gamma <= 0 or self.layers < 2 or self.reference_width_px <= 0:
            raise ValueError("gamma and reference_width_px must be above 0 and layers 2 or more")


def input_width_px(
    image: Float[Tensor, "b 3 h w"], size_px: int | None = None
) -> Float[Tensor, "b"]:
    """Return the long side in px of the model's input, at which its bokeh levels are defined.

    Not the long side of the frame from which a training square was cropped: one blur in one square
    would have another level for every frame that it may come from, and the network cannot know the
    frame. So it is the square's (*ours*; the paper shows squares only): the camera token has the
    levels that were drawn, 1 to 20, whatever the crop, as at inference, which never crops. In
    training with `data.buckets` it is `size_px`, the side of the square of the same area, whatever
    the shape: a level has one radius in pixels, from which `token_level` converts at inference.
    """
    side_px = max(image.shape[-2:]) if size_px is None else size_px
    return torch.full((len(image),), float(side_px), device=image.device)


@torch.no_grad()
def photograph(
    image: Float[Tensor, "b 3 h w"],
    disparity: Float[Tensor, "b 1 h w"],
    width_px: Float[Tensor, "b"],
    cameras: Sequence[Cameras],
    rendering: Rendering,
    level_max: float | None = None,
) -> list[Float[Tensor, "b 3 h w"]]:
    """Render every sample with each of several cameras; with `layered` they share its spectra.

    Args:
        image: All in focus, display values in [0, 1].
        disparity: 0 far to 1 near.
        width_px: Long side at which the levels are defined, at this image's scale; see
            `input_width_px`.
        cameras: Focal plane and bokeh level of every sample; level 0 gives the image itself, bit
            for bit.
        rendering: Method, gamma, layers and reference width.
        level_max: No level is larger. On a GPU the host then waits for no tensor's value.

    Returns:
        One batch of images for each camera.
    """
    # Linear light, and how far any of it is spread
    bound = None if image.device.type == "cpu" else level_max
    if bound is None:
        levels = torch.stack([camera.bokeh_level for camera in cameras])
        largest_radius_px = float((levels * width_px).max()) / rendering.reference_width_px
    else:
        largest_radius_px = bound * max(image.shape[-2:]) / rendering.reference_width_px
    image_linear = display_to_linear(image.float(), rendering.gamma)
    is_read = bound is None
    lens: DisparityLayers | _Occlusion
    if rendering.method == "layered":
        lens = DisparityLayers(
            image_linear,
            disparity,
            rendering.layers,
            largest_radius_px=largest_radius_px,
            reads_radius=is_read,
        )
    else:
        lens = _Occlusion(image_linear, disparity, None if is_read else largest_radius_px)
    # Each camera's photograph; an all-in-focus one returns the image itself
    photographs = []
    for camera in cameras:
        light = lens.render(
            camera.bokeh_level, camera.focus_disparity, width_px, rendering.reference_width_px
        )
        blurred = linear_to_display(light, rendering.gamma).clamp(0, 1)
        is_blurred = camera.bokeh_level[:, None, None, None] > 0
        photographs.append(torch.where(is_blurred, blurred, image))
    return photographs


@dataclass(frozen=True)
class _Occlusion:
    """`DisparityLayers`' door to `occlusion`."""

    image_linear: Tensor
    disparity: Tensor
    # No radius is larger; None reads the radii from the device.
    largest_radius_px: float | None

    def render(
        self, level: Tensor, focus_disparity: Tensor, width_px: Tensor, reference_width_px: float
    ) -> Tensor:
        radius_px = bokeh_radius_px(
            self.disparity, focus_disparity, level, width_px, reference_width_px
        )
        bound_px = self.largest_radius_px
        return render_bokeh(
            self.image_linear,
            radius_px,
            method="occlusion",
            radius_range_px=None if bound_px is None else (-bound_px, bound_px),
            reads_radius=bound_px is None,
        )
