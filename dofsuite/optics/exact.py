"""The reference renderer: BokehMe's classical scatter, one tap after the other.

Time grows with radius^2, memory is O(h w). Nothing is approximated or optimized: it can be compared
line by line with the original, classical_renderer/scatter.py, and it shares no loop with the fast
methods that are measured against it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from dofsuite.optics.aperture import BlurShape
from dofsuite.optics.kernel import disc_edge, disc_edge_slope, per_area, per_area_slope


@dataclass(frozen=True)
class TapScattering:
    """The classical scatter and its adjoint as loops over taps."""

    reach_px: int
    """At least int(largest radius) + 1."""
    shape: BlurShape | None = None
    """None is round."""

    def scatter(self, light: Tensor, radius_px: Tensor) -> Tensor:
        # At each tap, all pixels send their share to the neighbor there.
        light_per_area = light * per_area(radius_px)
        sums = torch.zeros_like(light)
        for dy, dx in self.taps(*light.shape[-2:]):
            sources, targets = _window(dy, dx, light), _window(-dy, -dx, light)
            edge = self.edge(radius_px, dy, dx, sources)
            sums[targets].add_(light_per_area[sources] * edge)
        return sums

    def scatter_adjoint(
        self, grad_sums: Tensor, light: Tensor, radius_px: Tensor
    ) -> tuple[Tensor, Tensor]:
        # At each tap, all pixels collect the gradient of their light there.
        grad_light_per_area, grad_radius = torch.zeros_like(light), torch.zeros_like(radius_px)
        light_per_area = light * per_area(radius_px)
        for dy, dx in self.taps(*light.shape[-2:]):
            sources, targets = _window(dy, dx, light), _window(-dy, -dx, light)
            edge = self.edge(radius_px, dy, dx, sources)
            grad_light_per_area[sources].add_(grad_sums[targets] * edge)
            grad_edge = (grad_sums[targets] * light_per_area[sources]).sum(1, keepdim=True)
            grad_radius[sources].add_(grad_edge * disc_edge_slope(edge))
        # The radius also scales the light per area.
        grad_per_area = (grad_light_per_area * light).sum(1, keepdim=True)
        grad_radius += grad_per_area * per_area_slope(radius_px)
        return grad_light_per_area * per_area(radius_px), grad_radius

    def edge(
        self, radius_px: Tensor, dy: int, dx: int, sources: tuple[slice, slice, slice, slice]
    ) -> Tensor:
        """The disc's value at (dy, dx) from each of these sources."""
        distance_px: float | Tensor = math.hypot(dy, dx)
        if self.shape is not None:
            distance_px = self.shape.gauge_px(dy, dx, *sources[2:])
        return disc_edge(radius_px[sources], distance_px, max(abs(dy), abs(dx)))

    def taps(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        """Offsets (dy, dx) of the square |dy|, |dx| <= reach that fit into a frame of this size."""
        reach_y, reach_x = min(self.reach_px, height - 1), min(self.reach_px, width - 1)
        return product(range(-reach_y, reach_y + 1), range(-reach_x, reach_x + 1))


def _window(dy: int, dx: int, image: Tensor) -> tuple[slice, slice, slice, slice]:
    """Slices of the pixels that stay in the frame when they are moved by (dy, dx)."""
    height, width = image.shape[-2:]
    rows, columns = slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0))
    return slice(None), slice(None), rows, columns
