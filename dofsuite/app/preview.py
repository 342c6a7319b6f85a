"""A photograph on the screen: reduced, and split into layers once, so that a slider is followed.

Blur is rendered at 512 px, whose layers' spectra are kept. Blurred parts hold nothing finer than
that; where the picture is sharp, it is shown with the detail of 1024 px (*ours*).
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.images import resize, thumbnail
from dofsuite.optics import (
    Aperture,
    DisparityLayers,
    bokeh_radius_px,
    linear_to_srgb,
    render_bokeh,
    srgb_to_linear,
)
from dofsuite.optics.aperture import ROUND
from dofsuite.photography import Photo

PREVIEW_PX = 512
DISPLAY_PX = 1024
NUM_LAYERS = 41
# The layers' spectra are computed again for a radius above this.
LARGEST_RADIUS_PX = 32
# Detail finer than the preview fades out up to this radius, in pixels of the preview.
DETAIL_RADIUS_PX = 1.0


class Preview:
    """One photograph with one depth map, rendered with any focus, blur and aperture.

    Args:
        photo: At any size; what is transparent is shown over white.
        disparity: [1, 1, h, w] of the photograph, 0 far to 1 near.
    """

    def __init__(self, photo: Photo, disparity: Tensor) -> None:
        # What is shown where nothing is blurred, and what is blurred
        self.sharp_srgb = display_of(photo)
        small_srgb = thumbnail(self.sharp_srgb, PREVIEW_PX)
        size = (small_srgb.shape[-2], small_srgb.shape[-1])
        self.detail = self.sharp_srgb - resize(small_srgb, *self.sharp_srgb.shape[-2:])
        self.image_linear = srgb_to_linear(small_srgb)[None]
        self.disparity = interpolate(disparity, size, mode="bilinear", antialias=True).clamp(0, 1)
        self.layers = DisparityLayers(
            self.image_linear, self.disparity, NUM_LAYERS, torch.float32, LARGEST_RADIUS_PX
        )

    def render(
        self, bokeh_level: float, focus_disparity: float, aperture: Aperture = ROUND
    ) -> Tensor:
        """Return display values [3, h, w], of at most 1024 px.

        Args:
            bokeh_level: Radius in pixels of 512 px per unit of disparity, at least 0.
            focus_disparity: In focus.
            aperture: A cat's eye has another kernel at each place: it is rendered without the
                layers, which takes longer.
        """
        radius_px = self.radius_px(bokeh_level, focus_disparity)
        # Blur at 512 px; smaller photographs are rendered at their own size
        if aperture.cat_eye > 0:
            light = render_bokeh(
                self.image_linear, radius_px, "layered", fft_dtype=torch.float32, aperture=aperture
            )
        else:
            self.layers.aperture = aperture
            light = self.layers.render(bokeh_level, focus_disparity)
        blurred = resize(linear_to_srgb(light.clamp(0, 1))[0], *self.sharp_srgb.shape[-2:])
        # Detail where it is sharp
        sharpness = (1 - radius_px.abs() / DETAIL_RADIUS_PX).clamp(min=0)
        sharpness = interpolate(sharpness, self.sharp_srgb.shape[-2:], mode="bilinear")[0]
        return (blurred + self.detail * sharpness).clamp(0, 1)

    def radius_px(self, bokeh_level: float, focus_disparity: float) -> Tensor:
        """Signed blur radius [1, 1, h, w] in pixels of the preview."""
        long_side_px = max(self.disparity.shape[-2:])
        return bokeh_radius_px(self.disparity, focus_disparity, bokeh_level, long_side_px)


def display_of(photo: Photo) -> Tensor:
    """Reduce a photograph to sRGB display values [3, h, w] of at most 1024 px, over white."""
    image = thumbnail(photo.image, DISPLAY_PX)
    if photo.alpha is not None:
        alpha = thumbnail(photo.alpha, DISPLAY_PX)
        image = image * alpha + (1 - alpha)
    return replace(photo, image=image, alpha=None).to_srgb()
