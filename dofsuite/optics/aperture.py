"""The aperture's shape: round, a polygon of blades, clipped to a cat's eye towards the corners.

A shape enters the classical kernel as its gauge g(u): the radius at which the shape's edge passes
through the offset u, in place of the distance |u|. The kernel's soft edge and weight per area stay.

    round            g(u) = |u|
    polygon          g(u) = max_k(n_k . u) / cos(pi / blades),  n_k the outward normals of its sides
    cat's eye        g(u) = |u|^2 / (c . u + sqrt((c . u)^2 + (1 - |c|^2) |u|^2))
                     the disc of radius r displaced by r c, which clips the shape: the larger of
                     both gauges

All are shapes as a source behind the focal plane shows them. In front of it the light has not
crossed yet: the shape is point-reflected, g(-u).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Aperture:
    """The shape of the opening that a highlight out of focus shows.

    Seen in the picture, upright for a highlight behind the focal plane and rotated by 180 degrees
    for one in front of it.

    The corners of the polygon lie on the round aperture's circle (*ours*: blades close within the
    opening, as in Blender; an equal area, which is what an f-number means, would be 1.15 times the
    radius at 5 blades and 1.05 at 8). The cat's eye is the part of the shape that lies in a second
    disc of the same radius, as the rims of a long lens clip it; for a highlight behind the focal
    plane that disc is displaced towards the center of the photograph. Weights are still divided by
    the round disc's area, so that a clipped highlight sends less light: that is optical vignetting,
    of highlights relative to each other, not of the photograph, whose exposure stays.

    Raises:
        ValueError: on 1, 2 or a negative number of blades, a rotation that is not finite, or a
            cat's eye outside [0, 1).
    """

    blades: int = 0
    """0 is round, else the number of the polygon's corners, at least 3."""
    rotation_deg: float | int = 0.0
    """Clockwise; at 0 one corner points upwards."""
    cat_eye: float | int = 0.0
    """Displacement of the second disc in the photograph's corners, in radii; it grows linearly with
    the distance from the center. 0 is none, 0.5 strong."""

    def __post_init__(self) -> None:
        if self.blades != int(self.blades) or self.blades < 0 or self.blades in (1, 2):
            raise ValueError(f"blades must be 0 (round) or at least 3, not {self.blades}.")
        if not math.isfinite(self.rotation_deg):
            raise ValueError(f"rotation_deg must be finite, not {self.rotation_deg}.")
        if not 0 <= self.cat_eye < 1:
            raise ValueError(f"cat_eye must be at least 0 and below 1, not {self.cat_eye}.")

    @property
    def is_round(self) -> bool:
        return self.blades == 0 and self.cat_eye == 0

    @property
    def is_point_symmetric(self) -> bool:
        """Whether both sides of the focal plane show the same shape."""
        return self.blades % 2 == 0 and self.cat_eye == 0


ROUND = Aperture()


class Tile(NamedTuple):
    """Where an image lies in the photograph that it is a tile of, and that photograph's size."""

    top_px: int
    left_px: int
    height_px: int
    width_px: int

    @property
    def corner_px(self) -> float:
        """Distance of the photograph's corners from its center, above 0."""
        return max(math.hypot(self.height_px - 1, self.width_px - 1) / 2, 1e-9)

    def holds(self, height: int, width: int) -> bool:
        """Whether an image of this size lies within the photograph."""
        fits_y = 0 <= self.top_px <= self.height_px - height
        return fits_y and 0 <= self.left_px <= self.width_px - width


def polygon_gauge_px(aperture: Aperture, dy: Tensor, dx: Tensor) -> Tensor:
    """The gauge of the unclipped shape at offsets in pixels, downwards and to the right: float64.

    max_k(n_k . u) = |u| cos(a - pi / blades), where a in [0, 2 pi / blades) is the angle from the
    last corner.
    """
    dy, dx = dy.double(), dx.double()
    distance_px = torch.hypot(dy, dx)
    if aperture.blades == 0:
        return distance_px
    half_side = math.pi / aperture.blades
    clockwise_from_top = torch.atan2(dx, -dy) - math.radians(aperture.rotation_deg % 360)
    from_corner = clockwise_from_top.remainder(2 * half_side)
    return distance_px * torch.cos(from_corner - half_side) / math.cos(half_side)


def clipped_gauge_px(
    shape_gauge_px: Tensor, squared_px2: Tensor | float, along_px: Tensor, squared_shift: Tensor
) -> Tensor:
    """The larger gauge of a shape and of the disc displaced by r c, for offsets u other than 0.

    Args:
        shape_gauge_px: The shape's own gauge.
        squared_px2: |u|^2.
        along_px: c . u.
        squared_shift: |c|^2, below 1.
    """
    root_px = (along_px * along_px + (1 - squared_shift) * squared_px2).sqrt()
    return torch.maximum(shape_gauge_px, squared_px2 / (along_px + root_px))


def cat_eye_shift(aperture: Aperture, height: int, width: int, tile: Tile | None) -> list[Tensor]:
    """The displacement c behind the focal plane, of each row and of each column: float64.

    c = -cat_eye * (position - center) / (distance of a corner from the center).
    """
    tile = tile or Tile(0, 0, height, width)
    per_px = aperture.cat_eye / tile.corner_px
    rows_px = tile.top_px + torch.arange(height).double() - (tile.height_px - 1) / 2
    columns_px = tile.left_px + torch.arange(width).double() - (tile.width_px - 1) / 2
    return [-per_px * rows_px, -per_px * columns_px]


class BlurShape:
    """The gauge of every pixel's own shape: by its side of the focal plane and its place."""

    def __init__(
        self,
        aperture: Aperture,
        radius_px: Tensor,
        dtype: torch.dtype,
        tile: Tile | None = None,
    ) -> None:
        """`radius_px` is signed [b, 1, h, w]; `dtype` is that of the computation."""
        self.aperture, self.tile = aperture, tile
        # -1 in front of the focal plane, where the shape is point-reflected
        self.is_front = radius_px.detach() > 0
        self.side = 1 - 2 * self.is_front.to(dtype)
        height, width = radius_px.shape[-2:]
        shift_y, shift_x = cat_eye_shift(aperture, height, width, tile)
        self.shift_y = shift_y.to(radius_px.device, dtype)[:, None]
        self.shift_x = shift_x.to(radius_px.device, dtype)

    def gauge_px(
        self, dy: int, dx: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> Tensor:
        """Gauge of the offset (dy, dx) from these sources [b, 1, h, w], [] if it is one."""
        # The polygon: what both sides have in common, and by what they differ
        steps = torch.tensor([[dy, -dy], [dx, -dx]], device=self.side.device)
        gauges_px = polygon_gauge_px(self.aperture, *steps).to(self.side.dtype)
        upright, reflected = gauges_px.unbind()
        if self.aperture.is_point_symmetric or dy == dx == 0:
            return upright
        side = self.side[..., rows, columns]
        gauge: Tensor = (upright + reflected) / 2 + side * ((upright - reflected) / 2)
        if self.aperture.cat_eye == 0:
            return gauge
        # The disc that clips it
        shift_y, shift_x = self.shift_y[rows], self.shift_x[columns]
        along_px = side * (dy * shift_y + dx * shift_x)
        squared_shift = shift_y * shift_y + shift_x * shift_x
        return clipped_gauge_px(gauge, float(dy * dy + dx * dx), along_px, squared_shift)
