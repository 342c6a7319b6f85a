"""The classical scatter for small radii: exact, by taps, with one weight map per distance.

Up to 8 offsets (dy, dx) lie at the same distance, so a reach of 4 px has 81 taps but 15 weight
maps. At such reaches this is three times as fast as `exact.py` and faster than layers. Where the
aperture is not round, only an offset and its opposite have the same weight, if any.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dofsuite.optics.aperture import BlurShape
from dofsuite.optics.kernel import disc_edge, disc_edge_slope, per_area, per_area_slope

SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


class Ring(NamedTuple):
    """All offsets (dy, dx) at the same distances, which have the same weight."""

    distance_px: float | Tensor
    chebyshev_px: int
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class NearScattering:
    """The classical scatter and its adjoint, ring by ring."""

    reach_px: int
    """At least int(largest radius) + 1."""
    shape: BlurShape | None = None
    """None is round."""

    def scatter(self, light: Tensor, radius_px: Tensor) -> Tensor:
        light_per_area = light * per_area(radius_px)
        sums = torch.zeros_like(light)
        for ring in self.rings(*light.shape[-2:]):
            sent = light_per_area * disc_edge(radius_px, ring.distance_px, ring.chebyshev_px)
            for dy, dx in ring.offsets:
                _staying(sums, -dy, -dx).add_(_staying(sent, dy, dx))
        return sums

    def scatter_adjoint(
        self, grad_sums: Tensor, light: Tensor, radius_px: Tensor
    ) -> tuple[Tensor, Tensor]:
        # A ring's gradients are summed at the source, then weighted once.
        light_per_area = light * per_area(radius_px)
        grad_light_per_area, grad_radius = torch.zeros_like(light), torch.zeros_like(radius_px)
        for ring in self.rings(*light.shape[-2:]):
            returned = torch.zeros_like(light)
            for dy, dx in ring.offsets:
                _staying(returned, dy, dx).add_(_staying(grad_sums, -dy, -dx))
            edge = disc_edge(radius_px, ring.distance_px, ring.chebyshev_px)
            grad_radius += (returned * light_per_area).sum(1, keepdim=True) * disc_edge_slope(edge)
            grad_light_per_area += returned.mul_(edge)
        # The radius also scales the light per area.
        grad_per_area = (grad_light_per_area * light).sum(1, keepdim=True)
        grad_radius += grad_per_area * per_area_slope(radius_px)
        return grad_light_per_area * per_area(radius_px), grad_radius

    def rings(self, height: int, width: int) -> Iterator[Ring]:
        if self.shape is not None:
            yield from self._shaped_rings(self.shape, height, width)
            return
        for far in range(self.reach_px + 1):
            for near in range(far + 1):
                offsets = {
                    (sy * dy, sx * dx) for dy, dx in ((far, near), (near, far)) for sy, sx in SIGNS
                }
                inside = sorted(
                    (dy, dx) for dy, dx in offsets if abs(dy) < height and abs(dx) < width
                )
                if inside:
                    yield Ring(math.hypot(far, near), far, inside)

    def _shaped_rings(self, shape: BlurShape, height: int, width: int) -> Iterator[Ring]:
        reach_y, reach_x = min(self.reach_px, height - 1), min(self.reach_px, width - 1)
        for dy in range(-reach_y, reach_y + 1):
            for dx in range(-reach_x, reach_x + 1):
                offsets = [(dy, dx)]
                if shape.aperture.is_point_symmetric and (dy, dx) < (0, 0):
                    offsets.append((-dy, -dx))
                elif shape.aperture.is_point_symmetric and (dy, dx) > (0, 0):
                    continue
                yield Ring(shape.gauge_px(dy, dx), max(abs(dy), abs(dx)), offsets)


def _staying(image: Tensor, dy: int, dx: int) -> Tensor:
    height, width = image.shape[-2:]
    return image[..., max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
