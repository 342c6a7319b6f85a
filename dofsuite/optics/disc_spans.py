"""Sums over a disc of each pixel's own radius, by running sums: O(r) operations a pixel.

With m = floor(r / sqrt(2)), a disc of radius r >= 2 is the 2 m + 1 rows and the 2 m + 1 columns
within m of its center, less the square that both have in common, and the four pixels
(+-(m + 1), +-(m + 1)). On one of these rows or columns, at k from the center, are

    whole pixels up to a = floor(sqrt((r - 0.5)^2 - k^2)),
    the soft rim: at most the two pixels beyond, a + 1 and a + 2, by their weights w1 and w2,

because the rim, 1 px wide, is crossed there at less than 45 degrees, so that its width along the
row is below 2. With D_i the difference of the row's running sum from end to end of the span of half
width a + i, the row's sum is (1 - w1) D_0 + (w1 - w2) D_1 + w2 D_2. The square is four values of a
summed-area table. Running sums are float64, because a difference of two has the error of either.

Nothing here waits for a value: the number of rows follows from the largest radius alone, a number
that the caller has.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dofsuite.optics.meta import device_type
from dofsuite.optics.running_sums import (
    folded,
    looked_up,
    running,
    running_adjoint,
    send,
    shifted,
)

# Values of a running sum looked up at once: 8 MiB on a CPU, 256 MiB on a GPU.
VALUES_AT_ONCE = {"cpu": 2**20}
VALUES_AT_ONCE_GPU = 2**25
SPANS = 3


class DiscSums(NamedTuple):
    """Sums over each pixel's disc of light and of weight, and their slopes by the radius.

    The slopes are the sums over the taps in the rim, whose weight grows with the radius.
    """

    light: Tensor
    weight: Tensor
    light_slope: Tensor
    weight_slope: Tensor


class _Line(NamedTuple):
    """The rows at one distance from the center; tensors are [b, 1, h, 3, w], a span each."""

    offset: int
    half_px: Tensor
    """Of the longest span but two [b, 1, h, w]."""
    share: Tensor
    slope: Tensor


@dataclass(frozen=True)
class DiscSpans:
    """Discs of radii [b, 1, h, w]; below 0 is no disc, whose sums are 0."""

    disc_px: Tensor
    largest_radius_px: float

    @property
    def margin_px(self) -> int:
        """Of padded images: a disc with its rim, and the end of a running sum."""
        return int(self.largest_radius_px) + 3

    def sums(self, image: Tensor, with_slopes: bool) -> DiscSums:
        """Sums over the discs of an image: light [b, 3, h, w] and weight [b, 1, h, w].

        Without slopes these are 0.
        """
        # Rows, and columns as the rows of the transposed image; both have the same weight.
        padded = self.pad(image).double()
        weight, weight_slope = self._line_weights()
        light, slope = self._line_sums(padded, with_slopes)
        of_columns = self._transposed._line_sums(padded.mT, with_slopes)
        light, slope = light + of_columns[0].mT, slope + of_columns[1].mT
        # Less the square, and its corners
        square, square_slope = self._square_sums(padded)
        area = (2 * self._half_square + 1).square() * (self._half_square >= 0)
        corners, corner_slopes = self._corners()
        return DiscSums(
            (light - square).to(image.dtype),
            2 * weight - area + 4 * corners.sum(1, keepdim=True),
            (slope + square_slope).to(image.dtype),
            2 * weight_slope + 4 * corner_slopes.sum(1, keepdim=True),
        )

    def weights(self) -> Tensor:
        """The discs' sums of weight [b, 1, h, w]."""
        area = (2 * self._half_square + 1).square() * (self._half_square >= 0)
        corners, _ = self._corners()
        return 2 * self._line_weights()[0] - area + 4 * corners.sum(1, keepdim=True)

    def adjoint(self, grad_light: Tensor) -> Tensor:
        """Gradient by the image [b, 3, h, w] from that by the discs' sums of light."""
        grad = grad_light.double()
        padded = self._line_adjoint(grad) + self._transposed._line_adjoint(grad.mT).mT
        padded = padded - self._square_adjoint(grad)
        return folded(padded, self.margin_px).to(grad_light.dtype)

    def pad(self, image: Tensor) -> Tensor:
        """The border repeated outwards."""
        return functional.pad(image, (self.margin_px,) * 4, mode="replicate")

    # Rows

    def _line_sums(self, padded: Tensor, with_slopes: bool) -> tuple[Tensor, Tensor]:
        """Sums along all rows of the discs, and their slopes: [b, 3, h, w]."""
        sums = running(padded, -1)
        light = sums.new_zeros(len(sums), 3, *self.disc_px.shape[-2:])
        slope = torch.zeros_like(light)
        for rows, part in self._parts():
            for line in part.lines():
                # Both rows at this distance have the same ends.
                both = sums[..., shifted(rows, self.margin_px + line.offset), :]
                if line.offset:
                    both = both + sums[..., shifted(rows, self.margin_px - line.offset), :]
                ends = both.gather(-1, part.ends(line).expand(-1, 3, -1, -1))
                stops, starts = ends.reshape(*ends.shape[:-1], 2, SPANS, -1).unbind(-3)
                spans = stops - starts  # [b, 3, h, 3, w]
                light[..., rows, :] += (spans * line.share).sum(-2)
                if with_slopes:
                    slope[..., rows, :] += (spans * line.slope).sum(-2)
        return light, slope

    def _line_weights(self) -> tuple[Tensor, Tensor]:
        """Pixels along all rows of the discs by weight, and their slope: [b, 1, h, w]."""
        weight, slope = torch.zeros_like(self.disc_px), torch.zeros_like(self.disc_px)
        beyond = torch.arange(SPANS, device=weight.device, dtype=weight.dtype)[:, None]
        for rows, part in self._parts():
            for line in part.lines():
                length = 2 * (line.half_px[..., None, :] + beyond) + 1
                number = 2 if line.offset else 1
                weight[..., rows, :].add_((length * line.share).sum(-2), alpha=number)
                slope[..., rows, :].add_((length * line.slope).sum(-2), alpha=number)
        return weight, slope

    def _line_adjoint(self, grad: Tensor) -> Tensor:
        """Gradient by the padded image from that by `_line_sums`."""
        height, width = (length + 2 * self.margin_px for length in grad.shape[-2:])
        grad_running = grad.new_zeros(len(grad), 3, height, width)
        for rows, part in self._parts():
            for line in part.lines():
                sent = grad[..., rows, None, :] * line.share
                sent = torch.cat([sent, -sent], dim=-2).flatten(-2)
                both = grad.new_zeros(*sent.shape[:-1], width)
                both.scatter_add_(-1, part.ends(line).expand(-1, 3, -1, -1), sent)
                for offset in {line.offset, -line.offset}:
                    grad_running[..., shifted(rows, self.margin_px + offset), :] += both
        return running_adjoint(grad_running, -1)

    def lines(self) -> Iterator[_Line]:
        """The rows of the discs, from their centers outwards."""
        num_lines = int(max(self.largest_radius_px, 0) / math.sqrt(2)) + 1
        outer = self.disc_px + 0.5
        for offset in range(num_lines):
            # Whole pixels, and the rim beyond both ends
            within = (self._half_square >= offset).to(outer.dtype)
            whole = ((self.disc_px - 0.5).square() - offset**2).clamp(min=0).sqrt().floor()
            first, second = (
                (outer - (whole + step).square().add(offset**2).sqrt()).clamp(0, 1) * within
                for step in (1, 2)
            )
            first_slope, second_slope = (
                ((edge > 0) & (edge < 1)).to(edge.dtype) for edge in (first, second)
            )
            # The same by spans
            share = torch.stack([within - first, first - second, second], dim=-2)
            slope = torch.stack([-first_slope, first_slope - second_slope, second_slope], dim=-2)
            yield _Line(offset, whole, share, slope)

    def ends(self, line: _Line) -> Tensor:
        """Where in a padded row's running sum the spans stop and start: [b, 1, h, 2 * 3 * w]."""
        half_px = line.half_px.long()[..., None, :]
        column = torch.arange(half_px.shape[-1], device=half_px.device) + self.margin_px
        beyond = torch.arange(SPANS, device=half_px.device)
        # Stops after the span's last pixel, starts at its first
        stops = (column + beyond[:, None] + 1) + half_px
        starts = (column - beyond[:, None]) - half_px
        return torch.cat([stops, starts], dim=-2).flatten(-2)

    # The square that rows and columns have in common

    @property
    def _half_square(self) -> Tensor:
        return torch.where(self.disc_px >= 0, (self.disc_px / math.sqrt(2)).floor(), -1)

    def _corners(self) -> tuple[Tensor, Tensor]:
        """Weights and slopes [b, 2, h, w] of the square's four corners and the four beyond.

        Rows and columns have a corner's weight w twice, the square takes 1 off: 1 - w is missing.
        """
        steps = torch.cat([self._half_square, self._half_square + 1], dim=1)
        edge = (self.disc_px + 0.5 - math.sqrt(2) * steps).clamp(0, 1)
        inside = (self.disc_px >= 0).to(edge.dtype)
        slope = ((edge > 0) & (edge < 1)) * inside
        slope = torch.cat([-slope[:, :1], slope[:, 1:]], dim=1)
        return torch.cat([1 - edge[:, :1], edge[:, 1:]], dim=1) * inside, slope

    def _square_sums(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        """Light in the squares less that of the corners, and the corners' slopes: [b, 3, h, w]."""
        table, inside = running(running(padded, -1), -2), self.disc_px >= 0
        light = torch.zeros_like(padded[..., : inside.shape[-2], : inside.shape[-1]])
        slope = torch.zeros_like(light)
        for place, sign in self._table_places():
            light += looked_up(table, place) * (sign * inside)
        for place, weight, weight_slope in self._corner_places():
            pixel = looked_up(padded, place)
            light -= pixel * weight
            slope += pixel * weight_slope
        return light, slope

    def _square_adjoint(self, grad: Tensor) -> Tensor:
        """Gradient by the padded image from that by `_square_sums`' light."""
        size = (length + 2 * self.margin_px for length in grad.shape[-2:])
        pixels = grad.new_zeros(len(grad), 3, *size)
        table, inside = torch.zeros_like(pixels), self.disc_px >= 0
        for place, sign in self._table_places():
            send(table, place, grad * (sign * inside))
        for place, weight, _ in self._corner_places():
            send(pixels, place, -grad * weight)
        return running_adjoint(running_adjoint(table, -1), -2) + pixels

    def _table_places(self) -> Iterator[tuple[Tensor, int]]:
        """The square's four values in a summed-area table: flat places [b, 1, h, w] and signs."""
        half_px = self._half_square.long()
        ends = ((half_px + 1, 1), (-half_px, -1))
        for (dy, sign_y), (dx, sign_x) in product(ends, ends):
            yield self._place(dy, dx), sign_y * sign_x

    def _corner_places(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The four pixels in the square's corners and the four beyond: places, weights, slopes."""
        half_px, (weights, slopes) = self._half_square.long(), self._corners()
        for beyond in (0, 1):
            weight, slope = (each[:, beyond : beyond + 1] for each in (weights, slopes))
            for sign_y, sign_x in product((-1, 1), (-1, 1)):
                step = half_px + beyond
                yield self._place(sign_y * step, sign_x * step), weight, slope

    def _place(self, dy: Tensor, dx: Tensor) -> Tensor:
        """Flat places in a padded image, (dy, dx) from every pixel."""
        height, width = self.disc_px.shape[-2:]
        row = torch.arange(height, device=dy.device)[:, None] + self.margin_px + dy
        column = torch.arange(width, device=dx.device) + self.margin_px + dx
        return row * (width + 2 * self.margin_px) + column

    # Parts

    @property
    def _transposed(self) -> "DiscSpans":
        return replace(self, disc_px=self.disc_px.mT)

    def _parts(self) -> Iterator[tuple[slice, "DiscSpans"]]:
        """Some rows of the maps at a time, and their discs."""
        batch_size, _, height, width = self.disc_px.shape
        at_once = VALUES_AT_ONCE.get(device_type(self.disc_px), VALUES_AT_ONCE_GPU)
        step = max(1, at_once // (batch_size * 3 * 2 * SPANS * width))
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            yield rows, replace(self, disc_px=self.disc_px[..., rows, :])
