"""Refocusing by deconvolution, after Bando and Nishita, "Towards Digital Refocusing from a Single Photograph" (2007).

Their way: estimate how much each part of one photograph is blurred, undo it by deconvolution, and
blur the sharp picture again for another focus. DiffCamera compares with it in appendix F, where it
rings at edges of high contrast.

Paper: blur is estimated locally from the photograph alone, and deconvolved with a prior for sparse
gradients. Here: one radius for each layer of the disparity, because every method of the benchmark
is given one, estimated at its steepest edges, and a prior for small gradients, because its answer
is closed (*ours*; it rings a little more).

Convention: light is [1, 3, h, w], radii are in pixels, layers are nodes of disparity from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from dofsuite.optics import display_to_linear, linear_to_display
from dofsuite.optics.kernel import tap_weight


@dataclass(frozen=True)
class Deconvolution:
    """How a photograph is made sharp; all *ours*."""

    largest_radius_share: float = 0.08
    """Largest radius undone, as a share of the picture's side."""
    layers: int = 6
    """Layers of disparity, each with a radius of its own."""
    gradient_weight: float = 0.03
    """Weight of the prior; more rings less and leaves more blur."""
    reblur_sigma_px: float = 2.0
    """Deviation of the Gaussian whose effect on an edge tells the edge's own blur."""
    steepest_share: float = 0.1
    """Share of a layer's pixels that count as its edges."""
    sharpest_share: float = 0.25
    """Of a layer's edges, this share is taken as sharp in the scene: the quantile there is the layer's blur."""
    edge_softness_px: float = 1.6
    """Radius that is found at the edges of a picture in focus (measured on three photographs)."""

    def sharpen(self, picture: Tensor, disparity: Tensor, gamma: float) -> Float[Tensor, "1 3 h w"]:
        """Undo the defocus of a picture.

        Args:
            picture: Display values [1, 3, h, w] in [0, 1].
            disparity: [1, 1, h, w] in [0, 1]; where it is the same everywhere, so is the radius.
            gamma: Display value to light.
        """
        light = display_to_linear(picture, gamma)
        sharp = torch.zeros_like(picture)
        for weight, radius in zip(*self.radii_px(light, disparity), strict=True):
            restored = deconvolved(light, radius, self.gradient_weight).clamp(0, 1)
            sharp += weight * linear_to_display(restored, gamma)
        return sharp.clamp(0, 1)

    def radii_px(
        self, light: Tensor, disparity: Tensor
    ) -> tuple[Float[Tensor, "l 1 h w"], list[float]]:
        """Return how much each pixel belongs to each layer, and each layer's radius.

        An edge of blur s that is blurred again by s0 is less steep by R = sqrt(s^2 + s0^2) / s
        (Zhuo and Sim 2011), so s = s0 / sqrt(R^2 - 1); a disc of radius r is as wide as a Gaussian
        of deviation r / 2.
        """
        grey = light.mean(dim=1, keepdim=True)
        before, after = steepness(grey), steepness(blurred(grey, self.reblur_sigma_px))
        ratio = (before / after.clamp(min=1e-6)).flatten()
        weights = layer_weights(disparity, self.layers)
        radii = [
            self.radius_of(ratio, after.flatten(), weight.flatten() > 0.5) for weight in weights
        ]
        largest = self.largest_radius_share * max(light.shape[-2:])
        return weights, [min(radius, largest) for radius in radii]

    def radius_of(
        self, ratio: Float[Tensor, "n"], steep: Float[Tensor, "n"], inside: Tensor
    ) -> float:
        """Return the radius of a layer; 0 for one without pixels."""
        if not bool(inside.any()):
            return 0.0
        edges = inside & (steep >= steep[inside].quantile(1 - self.steepest_share))
        sharpest = float(ratio[edges].quantile(1 - self.sharpest_share))
        found = 2 * self.reblur_sigma_px / max(sharpest**2 - 1, 1e-3) ** 0.5
        return max(found**2 - self.edge_softness_px**2, 0.0) ** 0.5


def deconvolved(
    light: Tensor, radius_px: float, gradient_weight: float
) -> Float[Tensor, "1 3 h w"]:
    """Undo a disc: argmin |k * f - g|^2 + w |grad f|^2, which is F = conj(K) G / (|K|^2 + w |D|^2).

    The picture is continued by its mirror image, so that its border is no edge. A radius below half
    a pixel is none.
    """
    if radius_px < 0.5:
        return light
    margin = min(int(2 * radius_px) + 2, min(light.shape[-2:]) - 1)
    framed = pad(light.double(), [margin] * 4, mode="reflect")
    height, width = framed.shape[-2:]
    kernel = torch.fft.rfft2(centred_disc(radius_px, height, width))
    fy, fx = torch.fft.fftfreq(height).double()[:, None], torch.fft.rfftfreq(width).double()
    steep = 4 * (torch.sin(torch.pi * fy) ** 2 + torch.sin(torch.pi * fx) ** 2)
    spectrum = (
        torch.fft.rfft2(framed) * kernel.conj() / (kernel.abs().square() + gradient_weight * steep)
    )
    return torch.fft.irfft2(spectrum, s=(height, width))[..., margin:-margin, margin:-margin].to(
        light.dtype
    )


def centred_disc(radius_px: float, height: int, width: int) -> Float[Tensor, "height width"]:
    """Return BokehMe's kernel of a radius, sum 1, its centre at the origin, wrapped around the frame."""
    y, x = (torch.minimum(torch.arange(n), n - torch.arange(n)).double() for n in (height, width))
    radius = torch.tensor(radius_px, dtype=torch.float64)
    weight = tap_weight(radius, torch.hypot(y[:, None], x), torch.maximum(y[:, None], x))
    return weight / weight.sum()


def layer_weights(disparity: Tensor, layers: int) -> Float[Tensor, "l 1 h w"]:
    """Return how much each pixel belongs to each layer: 1 at its own disparity, falling to 0 at its neighbours'."""
    if not bool(disparity.max() > disparity.min()):
        return torch.ones_like(disparity)
    nodes = torch.linspace(0, 1, layers).reshape(-1, 1, 1, 1)
    return (1 - (disparity - nodes).abs() * (layers - 1)).clamp(min=0)


def steepness(grey: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 1 h w"]:
    """Return the length of the gradient, by central differences."""
    framed = pad(grey, [1] * 4, mode="replicate")
    right = framed[..., 1:-1, 2:] - framed[..., 1:-1, :-2]
    down = framed[..., 2:, 1:-1] - framed[..., :-2, 1:-1]
    return torch.hypot(right, down) / 2


def blurred(grey: Float[Tensor, "1 1 h w"], sigma_px: float) -> Float[Tensor, "1 1 h w"]:
    """Blur by a Gaussian, the border repeated outwards."""
    reach = int(4 * sigma_px) + 1
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma_px) ** 2).to(grey)
    kernel = kernel / kernel.sum()
    rows = conv2d(pad(grey, [reach, reach, 0, 0], mode="replicate"), kernel.reshape(1, 1, 1, -1))
    return conv2d(pad(rows, [0, 0, reach, reach], mode="replicate"), kernel.reshape(1, 1, -1, 1))
