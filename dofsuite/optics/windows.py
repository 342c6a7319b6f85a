"""Parts of a picture whose sources share one kernel, for convolution where the kernel varies.

Light is divided among overlapping windows by hat weights, which add up to 1, and each window is
convolved with the kernel of its center: a kernel in between is interpolated from four. A window is
transformed with the surroundings that its light reaches, no more.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from dofsuite.optics.aperture import Aperture, Tile
from dofsuite.optics.fourier import FourierFrame

# Change of the cat's eye's displacement, in radii, from one window to the next.
SHIFT_STEP = 0.12


class Window(NamedTuple):
    """Sources with one kernel, and the rows and columns that their light reaches."""

    rows: slice
    columns: slice
    weight: Tensor
    """[h, w] or [1, 1], the window's share of each pixel's light."""
    shift_yx: tuple[float, float]
    """Displacement of the cat's eye behind the focal plane, in radii."""
    frame: FourierFrame

    def of(self, image: Tensor) -> Tensor:
        """The view of an image [..., h, w] within the window's rows and columns."""
        return image[..., self.rows, self.columns]


class _Span(NamedTuple):
    """A window's extent along one axis."""

    pixels: slice
    weight: Tensor
    from_center_px: float
    """Its place in the photograph."""
    clear_px: int
    """Pixels without light at either end."""


def windows_of(
    like: Tensor,
    aperture: Aperture,
    tile: Tile | None,
    reach_px: int,
    shift_step: float = SHIFT_STEP,
) -> list[Window]:
    """The windows of images like `like` [..., h, w], one in all where there is hardly a cat's eye.

    From one to the next the cat's eye's displacement changes by at most `shift_step` radii.
    """
    height, width = like.shape[-2:]
    if aperture.cat_eye < shift_step / 4:
        whole = slice(0, height), slice(0, width)
        frame = FourierFrame(height, width, reach_px)
        return [Window(*whole, like.new_ones(1, 1), (0.0, 0.0), frame)]
    # The spans of both axes, crossed
    tile = tile or Tile(0, 0, height, width)
    per_px = aperture.cat_eye / tile.corner_px
    spacing_px = shift_step / per_px
    rows = list(_spans(like, tile.top_px, height, tile.height_px, spacing_px, reach_px))
    columns = list(_spans(like, tile.left_px, width, tile.width_px, spacing_px, reach_px))
    windows = []
    for y, x in product(rows, columns):
        size = y.pixels.stop - y.pixels.start, x.pixels.stop - x.pixels.start
        frame = FourierFrame(*size, reach_px, (y.clear_px, x.clear_px))
        weight = y.weight[:, None] * x.weight
        shift_yx = -per_px * y.from_center_px, -per_px * x.from_center_px
        windows.append(Window(y.pixels, x.pixels, weight, shift_yx, frame))
    return windows


def _spans(
    like: Tensor, first_px: int, length: int, full_length: int, most_px: float, reach_px: int
) -> Iterator[_Span]:
    """Hats along one axis of an image that begins `first_px` into the photograph."""
    # Their centers, evenly from the photograph's first pixel to its last, at most `most_px` apart
    last_px = full_length - 1
    cells = max(1, math.ceil(last_px / most_px))
    spacing_px = max(last_px / cells, 1e-9)
    for index in range(cells + 1 if last_px else 1):
        center_px = index * spacing_px - first_px
        start = max(0, math.floor(center_px - spacing_px) + 1)
        stop = min(length, math.ceil(center_px + spacing_px))
        if start >= stop:
            continue
        # The hat, and the pixels within reach of it, which it gives no light
        begin, end = max(0, start - reach_px), min(length, stop + reach_px)
        position_px = torch.arange(begin, end, device=like.device, dtype=like.dtype)
        weight = (1 - (position_px - center_px).abs() / spacing_px).clamp(min=0)
        from_center_px = index * spacing_px - last_px / 2
        yield _Span(slice(begin, end), weight, from_center_px, min(start - begin, end - stop))
