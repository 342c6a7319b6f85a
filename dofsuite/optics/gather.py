"""The lens of Time-Aperture-Focus (TAF): every pixel averages a disc of its *own* radius.

    r = max(CoC, 1 px) / 2,    w(d) = 1 for d <= r - 0.5,  r + 0.5 - d in the 1-px rim,  0 beyond
    out = sum w x / sum w,     d the distance from the output pixel, r its own radius

At CoC <= 1 px the disc is that pixel alone: the identity, with a radius gradient of exactly 0.
Above, the gradient by radius comes through the rim, which is never empty.

Discs of a radius below NEAR_PX are summed ring by ring, larger ones by running sums
(`disc_spans.py`): the cost grows with the largest radius, not with its square.

Source: Wang et al., SIGGRAPH Asia 2023, as in their project of the same name (MIT), `coc_blur` and
the local disc blur; written afresh from the formula. *Stated* there: the kernel, the clamp, the
border repeated outwards (the other methods of this room let nothing come from outside). Paper: the
radius is cut at a fixed window (11 px or 21 px across). Here: the window follows the largest
radius, because a cut disc is no disc. Paper: 1e-8 is added to sum w. Here: nothing, because sum w
is never below 1. No occlusion: what lies before an edge bleeds over it; that is `occlusion`'s
subject.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dofsuite.optics.disc_spans import DiscSpans, DiscSums
from dofsuite.optics.meta import device_type
from dofsuite.optics.running_sums import folded
from dofsuite.optics.scattering import without_autocast

# Half of TAF's least circle of confusion, 1 px (*stated*): the lens is the identity up to it.
LEAST_RADIUS_PX = 0.5
# Discs up to here have 69 taps in 13 rings, which are quicker than running sums.
NEAR_PX = 4.0
NO_DISC = -1.0
# Largest radius up to which all discs are summed by rings, and on a CPU, where few large operations
# are no quicker than many small ones. Both ways have the same numbers, to rounding.
RINGS_UP_TO_PX = 8.0
RINGS_UP_TO_PX_CPU = 64.0


class Ring(NamedTuple):
    """All offsets (dy, dx) at one distance from the output pixel: they share one weight map."""

    distance_px: float
    offsets: list[tuple[int, int]]


def gathered_mean(
    image_linear: Float[Tensor, "b 3 h w"],
    radius_px: Float[Tensor, "b 1 h w"],
    largest_radius_px: float,
) -> Float[Tensor, "b 3 h w"]:
    """TAF's disc mean, in the dtype of the image, computed in float32 or float64.

    Saves a map of the image's size and the radius map for backward: memory is a few images (each
    with a border as wide as the largest radius), time grows with the largest radius. Only |radius|
    matters. On a GPU the gradient by the image is summed by atomic additions: like `grid_sample`'s
    it may differ in the last bits from run to run, unless
    `torch.use_deterministic_algorithms(True)` is set.

    Args:
        image_linear: the values to average, any range.
        radius_px: signed radius, half the circle of confusion.
        largest_radius_px: no smaller than the largest |radius|: a larger one counts as this one,
            with a gradient of 0.
    """
    working_dtype = torch.promote_types(
        torch.promote_types(image_linear.dtype, radius_px.dtype), torch.float32
    )
    with without_autocast(image_linear):
        arguments = (image_linear.to(working_dtype), radius_px.to(working_dtype), largest_radius_px)
        mean: Tensor = _GatheredMean.apply(*arguments)  # type: ignore[no-untyped-call]
        return mean.to(image_linear.dtype)


class _GatheredMean(torch.autograd.Function):
    """Saves the mean's slope by the radius, and the radius; backward sends where it gathered."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radius_px: Tensor, largest_radius_px: float) -> Tensor:
        discs = _Discs(radius_px, largest_radius_px)
        sums = discs.sums(image, with_slopes=ctx.needs_input_grad[1])
        mean = sums.light / sums.weight
        ctx.largest_radius_px = largest_radius_px
        # What enters through the rim, less the mean that it dilutes; 0 where the radius is clamped
        slope = None
        if ctx.needs_input_grad[1]:
            slope = (sums.light_slope - sums.weight_slope * mean) / sums.weight
            slope *= radius_px.sign() * discs.is_free
        ctx.save_for_backward(radius_px, slope)
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        radius_px, slope = ctx.saved_tensors
        grad_image = grad_radius = None
        if ctx.needs_input_grad[0]:
            grad_image = _Discs(radius_px, ctx.largest_radius_px).adjoint(grad_mean)
        if slope is not None:
            grad_radius = (grad_mean * slope).sum(1, keepdim=True)
        return grad_image, grad_radius, None


class _Discs:
    """The discs of a batch: the small ones by rings, the others by running sums."""

    def __init__(self, radius_px: Tensor, largest_radius_px: float) -> None:
        least_px, largest_px = LEAST_RADIUS_PX, max(largest_radius_px, LEAST_RADIUS_PX)
        magnitude_px = radius_px.abs()
        self.is_free = (magnitude_px > least_px) & (magnitude_px <= largest_px)
        disc_px = magnitude_px.clamp(least_px, largest_px)
        on_cpu = device_type(radius_px) == "cpu"
        rings_only = largest_px <= (RINGS_UP_TO_PX_CPU if on_cpu else RINGS_UP_TO_PX)
        is_near = disc_px < (math.inf if rings_only else NEAR_PX)
        self.near_px = disc_px.masked_fill(~is_near, NO_DISC)
        self.window = _Window(radius_px, largest_px if rings_only else NEAR_PX)
        # Larger discs, if there may be any
        self.far = None
        if not rings_only:
            self.far = DiscSpans(disc_px.masked_fill(is_near, NO_DISC), largest_px)

    def sums(self, image: Tensor, with_slopes: bool) -> DiscSums:
        """Sums over all discs: light [b, 3, h, w] and weight [b, 1, h, w], and their slopes."""
        # Small discs: a ring of offsets at once, which share one weight map
        padded = self.window.pad(image)
        light, slope = torch.zeros_like(image), torch.zeros_like(image)
        weight, weight_slope = torch.zeros_like(self.near_px), torch.zeros_like(self.near_px)
        for ring in self.window.rings:
            edge, ring_light = _edge(self.near_px, ring), self.window.ring_sum(padded, ring)
            light.addcmul_(ring_light, edge)
            weight.add_(edge, alpha=len(ring.offsets))
            if with_slopes:
                in_rim = ((edge > 0) & (edge < 1)).to(edge.dtype)
                slope.addcmul_(ring_light, in_rim)
                weight_slope.add_(in_rim, alpha=len(ring.offsets))
        near = DiscSums(light, weight, slope, weight_slope)
        if self.far is None:
            return near
        # A pixel has a small disc or a large one: the other's sums are 0.
        return DiscSums(*map(torch.add, near, self.far.sums(image, with_slopes)))

    def adjoint(self, grad_mean: Tensor) -> Tensor:
        """Gradient by the image: every pixel's goes back to the pixels that it averaged."""
        weight = torch.zeros_like(self.near_px)
        for ring in self.window.rings:
            weight.add_(_edge(self.near_px, ring), alpha=len(ring.offsets))
        if self.far is not None:
            weight += self.far.weights()
        grad_light = grad_mean / weight
        # Small discs
        grad_padded = torch.zeros_like(self.window.pad(grad_light))
        for ring in self.window.rings:
            returned = grad_light * _edge(self.near_px, ring)
            for offset in ring.offsets:
                self.window.at(grad_padded, offset).add_(returned)
        grad_image = folded(grad_padded, self.window.reach_px)
        if self.far is not None:
            grad_image = grad_image + self.far.adjoint(grad_light)
        return grad_image


def _edge(disc_px: Tensor, ring: Ring) -> Tensor:
    return (disc_px + (0.5 - ring.distance_px)).clamp_(0, 1)


class _Window:
    """The offsets within a radius, and images padded by it with their border repeated."""

    def __init__(self, image: Tensor, largest_radius_px: float) -> None:
        self.height, self.width = image.shape[-2:]
        self.rings = rings_within(largest_radius_px + 0.5)
        self.reach_px = max(max(offset) for ring in self.rings for offset in ring.offsets)

    def pad(self, image: Tensor) -> Tensor:
        return functional.pad(image, (self.reach_px,) * 4, mode="replicate")

    def at(self, padded: Tensor, offset: tuple[int, int]) -> Tensor:
        """The view of a padded image that lies (dy, dx) away from the frame: [b, c, h, w]."""
        top, left = self.reach_px + offset[0], self.reach_px + offset[1]
        return padded[..., top : top + self.height, left : left + self.width]

    def ring_sum(self, padded: Tensor, ring: Ring) -> Tensor:
        total = self.at(padded, ring.offsets[0]).clone()
        for offset in ring.offsets[1:]:
            total += self.at(padded, offset)
        return total


def rings_within(distance_px: float) -> list[Ring]:
    """All whole offsets nearer than `distance_px`, in rings from the center outwards."""
    reach, rings = math.ceil(distance_px) - 1, defaultdict(list)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            rings[dy * dy + dx * dx].append((dy, dx))
    return [
        Ring(math.sqrt(squared), rings[squared])
        for squared in sorted(rings)
        if squared < distance_px**2
    ]
