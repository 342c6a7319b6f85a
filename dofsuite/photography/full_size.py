"""Rendering at full size, by tiles, so that memory does not grow with the photograph.

Light blurred with occlusion differs from light scattered without (`layered`) around depth edges
alone, and there as smoothly as the blur. A large photograph is therefore scattered at full size,
and the difference is rendered at 4 megapixels and enlarged (*ours*).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.optics import Aperture, Tile, render_bokeh
from dofsuite.optics.aperture import ROUND
from dofsuite.photography.config import Method
from dofsuite.photography.photo import Photo

OCCLUSION_UP_TO_PX = 4_000_000
TILE_PX = 1536
# Beyond the largest radius, so that hidden parts are inpainted from similar surroundings: occlusion
# by tiles is within 55 dB of the photograph rendered at once, the other methods within 1.5 levels
# of 255.
MARGIN_PX = 16
# Half the memory and time of float64; the error is far below a step of 8 bits.
FFT_DTYPE = torch.float32
# Smallest radius that changes a pixel visibly.
SHARP_PX = 0.1
# An 8-bit file's opacities start at 1/255; below half of that a pixel has no color to divide out.
LEAST_OPACITY = 0.002

OnTile = Callable[[int, int], object]


def blurred_photo(
    photo: Photo,
    radius_px: Tensor,
    method: Method = "auto",
    on_tile: OnTile = lambda done, total: None,
    aperture: Aperture = ROUND,
    gamma: float | None = None,
) -> Photo:
    """Blur a photograph's light at full size; where it is transparent, light and opacity alike.

    Args:
        photo: Any.
        radius_px: Signed blur radius [1, h, w], positive in front of the focal plane.
        method: As for `render_full_size`.
        on_tile: Called with (tiles done, tiles).
        aperture: Its shape.
        gamma: Light is value ** gamma; None: by the tone curve of the color profile.
    """

    def blur(image_linear: Tensor) -> Tensor:
        return render_full_size(image_linear, radius_px, method, on_tile, aperture=aperture)

    # Light, or light and opacity: a transparent pixel has no light to give
    light = photo.to_linear(gamma)
    if photo.alpha is None:
        return photo.with_light(blur(light), gamma)
    opacity = blur(photo.alpha.expand(3, -1, -1).contiguous())
    covered = blur(light * photo.alpha)
    light = torch.where(opacity > LEAST_OPACITY, covered / opacity.clamp(min=LEAST_OPACITY), light)
    return replace(photo.with_light(light, gamma), alpha=opacity[:1].clamp(0, 1))


def render_full_size(
    image_linear: Tensor,
    radius_px: Tensor,
    method: Method = "auto",
    on_tile: OnTile = lambda done, total: None,
    aperture: Aperture = ROUND,
) -> Tensor:
    """Blur light by a signed radius map, as `render_bokeh`, with bounded memory.

    Args:
        image_linear: [3, h, w], float32.
        radius_px: Signed blur radius [1, h, w], positive in front of the focal plane.
        method: Of `render_bokeh`; `auto` is `occlusion`, and for more than 4 megapixels `layered`
            with occlusion's difference from it.
        on_tile: Called with (tiles done, tiles).
        aperture: Its shape; `gather` has a round one only.
    """
    height, width = image_linear.shape[-2:]
    if height * width <= OCCLUSION_UP_TO_PX:
        at_once = "occlusion" if method == "auto" else method
        rendered = render_bokeh(
            image_linear[None], radius_px[None], at_once, fft_dtype=FFT_DTYPE, aperture=aperture
        )
        on_tile(1, 1)
        return rendered[0]
    if method != "auto":
        return render_tiles(image_linear, radius_px, method, on_tile=on_tile, aperture=aperture)
    rendered = render_tiles(image_linear, radius_px, "layered", on_tile=on_tile, aperture=aperture)
    return (rendered + occlusion_difference(image_linear, radius_px, aperture)).clamp_(min=0)


def occlusion_difference(
    image_linear: Tensor, radius_px: Tensor, aperture: Aperture = ROUND
) -> Tensor:
    """What occlusion adds to light scattered without [3, h, w], rendered at 4 megapixels."""
    height, width = image_linear.shape[-2:]
    scale = math.sqrt(OCCLUSION_UP_TO_PX / (height * width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    light = interpolate(image_linear[None], size, mode="area")
    radius_px = interpolate(radius_px[None], size, mode="bilinear", antialias=True) * scale
    occluded, scattered = (
        render_bokeh(light, radius_px, method, fft_dtype=FFT_DTYPE, aperture=aperture)
        for method in ("occlusion", "layered")
    )
    return interpolate(occluded - scattered, (height, width), mode="bilinear")[0]


def render_tiles(
    image_linear: Tensor,
    radius_px: Tensor,
    method: str,
    tile_px: int = TILE_PX,
    on_tile: OnTile = lambda done, total: None,
    aperture: Aperture = ROUND,
) -> Tensor:
    """Render [3, h, w] tile by tile, each with a margin as wide as the largest blur radius.

    Where nothing is blurred, the photograph stays as it is.
    """
    height, width = image_linear.shape[-2:]
    low_px, high_px = (float(extreme) for extreme in radius_px.aminmax())
    margin = int(max(-low_px, high_px)) + MARGIN_PX
    options: dict[str, Any] = {
        "fft_dtype": FFT_DTYPE,
        "radius_range_px": (low_px, high_px),
        "aperture": aperture,
    }
    corners = [(y, x) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
    rendered = torch.empty_like(image_linear)
    for done, (top, left) in enumerate(corners, start=1):
        # The tile with its margin
        rows = slice(max(0, top - margin), min(height, top + tile_px + margin))
        columns = slice(max(0, left - margin), min(width, left + tile_px + margin))
        light, radii_px = image_linear[:, rows, columns], radius_px[:, rows, columns]
        if float(radii_px.abs().max()) > SHARP_PX:
            tile = Tile(rows.start, columns.start, height, width)
            light = render_bokeh(light[None], radii_px[None], method, tile=tile, **options)[0]
        # Without it
        bottom, right = min(height, top + tile_px), min(width, left + tile_px)
        rendered[:, top:bottom, left:right] = light[
            :, top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
        ]
        on_tile(done, len(corners))
    return rendered
