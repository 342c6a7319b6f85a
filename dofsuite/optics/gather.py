"""The lens of Time-Aperture-Focus (TAF): every pixel averages a disc of its *own* radius.

    r = max(CoC, 1 px) / 2,    w(d) = 1 for d <= r - 0.5,  r + 0.5 - d in the 1-px rim,  0 beyond
    out = sum w x / sum w,     d the distance from the output pixel, r its own radius

At CoC <= 1 px the disc is that pixel alone: the identity, with a radius gradient of exactly 0.
Above, the gradient by radius comes through the rim, which is never empty.

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

from dofsuite.optics.scattering import without_autocast

# Half of TAF's least circle of confusion, 1 px (*stated*): the lens is the identity up to it.
LEAST_RADIUS_PX = 0.5


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

    Saves the image and the radius map for backward, which gathers again: memory is a few images
    (each with a border as wide as the largest radius), time grows with the largest radius squared.
    Only |radius| matters.

    Args:
        image_linear: the values to average, any range.
        radius_px: signed radius, half the circle of confusion.
        largest_radius_px: no smaller than the largest |radius|: offsets beyond it are left out.
    """
    working_dtype = torch.promote_types(
        torch.promote_types(image_linear.dtype, radius_px.dtype), torch.float32
    )
    with without_autocast(image_linear):
        arguments = (image_linear.to(working_dtype), radius_px.to(working_dtype), largest_radius_px)
        mean: Tensor = _GatheredMean.apply(*arguments)  # type: ignore[no-untyped-call]
        return mean.to(image_linear.dtype)


class _GatheredMean(torch.autograd.Function):
    """Saves image and radius only; backward gathers again, one ring of offsets after the other."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radius_px: Tensor, largest_radius_px: float) -> Tensor:
        ctx.save_for_backward(image, radius_px)
        ctx.window = window = _Window(image, largest_radius_px)
        disc_px, padded = _disc_radius_px(radius_px), window.pad(image)
        sums, weight = torch.zeros_like(image), torch.zeros_like(disc_px)
        for ring in window.rings:
            edge = _edge(disc_px, ring)
            sums.addcmul_(window.ring_sum(padded, ring), edge)
            weight.add_(edge, alpha=len(ring.offsets))
        return sums / weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        image, radius_px = ctx.saved_tensors
        disc_px, window = _disc_radius_px(radius_px), ctx.window
        # Through the division by the summed weight.
        weight = torch.zeros_like(disc_px)
        for ring in window.rings:
            weight.add_(_edge(disc_px, ring), alpha=len(ring.offsets))
        grad_sums = grad_mean / weight
        # By the image, and by the radius, with 0 where it is clamped.
        grad_image = _grad_image(window, grad_sums, disc_px) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_image, None, None
        grad_disc = _grad_disc(window, grad_sums, image, disc_px, weight)
        return grad_image, grad_disc * radius_px.sign() * (radius_px.abs() > LEAST_RADIUS_PX), None


def _grad_image(window: _Window, grad_sums: Tensor, disc_px: Tensor) -> Tensor:
    """Adjoint in the image: every output pixel's gradient goes back to the pixels it averaged."""
    grad_padded = torch.zeros_like(window.pad(grad_sums))
    for ring in window.rings:
        returned = grad_sums * _edge(disc_px, ring)
        for offset in ring.offsets:
            window.at(grad_padded, offset).add_(returned)
    return window.fold(grad_padded)


def _grad_disc(
    window: _Window, grad_sums: Tensor, image: Tensor, disc_px: Tensor, weight: Tensor
) -> Tensor:
    """Gradient by the disc's radius: what enters through the rim, less the mean that it dilutes."""
    padded, disc_light = window.pad(image), torch.zeros_like(disc_px)
    rim_light, rim_weight = torch.zeros_like(disc_px), torch.zeros_like(disc_px)
    for ring in window.rings:
        edge = _edge(disc_px, ring)
        in_rim = ((edge > 0) & (edge < 1)).to(edge.dtype)
        light = (window.ring_sum(padded, ring) * grad_sums).sum(1, keepdim=True)
        disc_light.addcmul_(light, edge)
        rim_light.addcmul_(light, in_rim)
        rim_weight.add_(in_rim, alpha=len(ring.offsets))
    return rim_light - rim_weight * disc_light / weight


def _disc_radius_px(radius_px: Tensor) -> Tensor:
    return radius_px.abs().clamp(min=LEAST_RADIUS_PX)


def _edge(disc_px: Tensor, ring: Ring) -> Tensor:
    return (disc_px + (0.5 - ring.distance_px)).clamp_(0, 1)


class _Window:
    """The offsets within the largest radius, and images padded by it with their border repeated."""

    def __init__(self, image: Tensor, largest_radius_px: float) -> None:
        self.height, self.width = image.shape[-2:]
        self.rings = rings_within(max(largest_radius_px, LEAST_RADIUS_PX) + 0.5)
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

    def fold(self, padded: Tensor) -> Tensor:
        """The adjoint of `pad`: the padding's values are added to the border's pixels."""
        for dim, length in ((-2, self.height), (-1, self.width)):
            before, inside, after = torch.split(padded, [self.reach_px, length, self.reach_px], dim)
            padded = inside.clone()
            padded.narrow(dim, 0, 1).add_(before.sum(dim, keepdim=True))
            padded.narrow(dim, length - 1, 1).add_(after.sum(dim, keepdim=True))
        return padded


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
