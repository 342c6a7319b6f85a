"""Refocusing by deconvolution.

After Bando and Nishita, "Towards Digital Refocusing from a Single Photograph" (2007): estimate the
blur of each part of one photograph, undo it by deconvolution, and blur the sharp image again for
another focus. DiffCamera compares with it in appendix F, where it rings at high-contrast edges.

Paper: blur is estimated locally from the photograph alone, and deconvolved with a sparse-gradient
prior. Here: one radius for each disparity layer, because every method of the benchmark is given
disparity, estimated at its steepest edges; and a Gaussian (L2) gradient prior, because its solution
is closed-form (*ours*; it rings a little more).

Convention: light is [1, 3, h, w], radii are in pixels, layers are nodes of disparity from 0 to 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from dofsuite.optics import display_to_linear, linear_to_display
from dofsuite.optics.kernel import tap_weight


@dataclass(frozen=True)
class Deconvolution:
    """Parameters of the sharpening; all *ours*."""

    largest_radius_share: float = 0.08
    """Largest radius undone, as a share of the image's longer side."""
    layers: int = 6
    """Disparity layers, each with its own radius."""
    gradient_weight: float = 0.03
    """Weight of the prior; larger values ring less and leave more blur."""
    reblur_sigma_px: float = 2.0
    """Standard deviation of the Gaussian re-blur whose effect on an edge gives the edge's blur."""
    steepest_share: float = 0.1
    """Share of a layer's pixels that count as edges."""
    sharpest_share: float = 0.25
    """Share of a layer's edges taken as sharp in the scene: its quantile is the layer's blur."""
    edge_softness_px: float = 1.6
    """Radius estimated at the edges of an image in focus (measured on three photographs)."""

    def sharpen(self, image: Tensor, disparity: Tensor, gamma: float) -> Float[Tensor, "1 3 h w"]:
        """Undo the defocus of an image.

        Args:
            image: Display values [1, 3, h, w] in [0, 1].
            disparity: [1, 1, h, w] in [0, 1]; if constant, there is one radius.
            gamma: Exponent from display values to linear light.
        """
        light = display_to_linear(image, gamma)
        sharp = torch.zeros_like(image)
        for weight, radius in zip(*self.radii_px(light, disparity), strict=True):
            restored = deconvolve(light, radius, self.gradient_weight).clamp(0, 1)
            sharp += weight * linear_to_display(restored, gamma)
        return sharp.clamp(0, 1)

    def radii_px(
        self, light: Tensor, disparity: Tensor
    ) -> tuple[Float[Tensor, "l 1 h w"], list[float]]:
        """Return the weight of each layer at each pixel, and each layer's radius.

        Re-blurring an edge of blur s by s0 reduces its gradient by R = sqrt(s^2 + s0^2) / s (Zhuo
        and Sim 2011), so s = s0 / sqrt(R^2 - 1); a disc of radius r has the width of a Gaussian of
        standard deviation r / 2.
        """
        gray = light.mean(dim=1, keepdim=True)
        gradient = gradient_norm(gaussian_blur(gray, self.reblur_sigma_px))
        ratio = (gradient_norm(gray) / gradient.clamp(min=1e-6)).flatten()
        weights = layer_weights(disparity, self.layers)
        radii = [
            self.radius_of(ratio, gradient.flatten(), weight.flatten() > 0.5) for weight in weights
        ]
        largest = self.largest_radius_share * max(light.shape[-2:])
        return weights, [min(radius, largest) for radius in radii]

    def radius_of(
        self, ratio: Float[Tensor, "n"], gradient: Float[Tensor, "n"], inside: Tensor
    ) -> float:
        """Return the radius of the layer of the pixels `inside`; 0 for an empty layer."""
        if not bool(inside.any()):
            return 0.0
        edges = inside & (gradient >= gradient[inside].quantile(1 - self.steepest_share))
        sharpest = float(ratio[edges].quantile(1 - self.sharpest_share))
        radius = 2 * self.reblur_sigma_px / max(sharpest**2 - 1, 1e-3) ** 0.5
        return max(radius**2 - self.edge_softness_px**2, 0.0) ** 0.5


def deconvolve(light: Tensor, radius_px: float, gradient_weight: float) -> Float[Tensor, "1 3 h w"]:
    """Undo a disc: argmin |k * f - g|^2 + w |grad f|^2, so F = conj(K) G / (|K|^2 + w |D|^2).

    The image is padded by reflection, so that its border is no edge. A radius below half a pixel
    counts as sharp.
    """
    if radius_px < 0.5:
        return light
    # Disc and gradient operator in the Fourier domain, on the padded image.
    margin = min(int(2 * radius_px) + 2, min(light.shape[-2:]) - 1)
    padded = pad(light.double(), [margin] * 4, mode="reflect")
    height, width = padded.shape[-2:]
    kernel = torch.fft.rfft2(centered_disc(radius_px, height, width))
    fy, fx = torch.fft.fftfreq(height).double()[:, None], torch.fft.rfftfreq(width).double()
    gradient = 4 * (torch.sin(torch.pi * fy) ** 2 + torch.sin(torch.pi * fx) ** 2)
    power = kernel.abs().square() + gradient_weight * gradient
    spectrum = torch.fft.rfft2(padded) * kernel.conj() / power
    restored = torch.fft.irfft2(spectrum, s=(height, width))
    return restored[..., margin:-margin, margin:-margin].to(light.dtype)


def centered_disc(radius_px: float, height: int, width: int) -> Float[Tensor, "height width"]:
    """Return BokehMe's disc kernel, sum 1, centered on the origin with wrap-around."""
    y, x = (torch.minimum(torch.arange(n), n - torch.arange(n)).double() for n in (height, width))
    radius = torch.tensor(radius_px, dtype=torch.float64)
    weight = tap_weight(radius, torch.hypot(y[:, None], x), torch.maximum(y[:, None], x))
    return weight / weight.sum()


def layer_weights(disparity: Tensor, layers: int) -> Float[Tensor, "l 1 h w"]:
    """Return linear weights of the layers: 1 at a layer's disparity, 0 at its neighbors'."""
    if not bool(disparity.max() > disparity.min()):
        return torch.ones_like(disparity)
    nodes = torch.linspace(0, 1, layers).reshape(-1, 1, 1, 1)
    return (1 - (disparity - nodes).abs() * (layers - 1)).clamp(min=0)


def gradient_norm(gray: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 1 h w"]:
    padded = pad(gray, [1] * 4, mode="replicate")
    right = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.hypot(right, down) / 2


def gaussian_blur(gray: Float[Tensor, "1 1 h w"], sigma_px: float) -> Float[Tensor, "1 1 h w"]:
    half = int(4 * sigma_px) + 1
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma_px) ** 2).to(gray)
    kernel = kernel / kernel.sum()
    rows = conv2d(pad(gray, [half, half, 0, 0], mode="replicate"), kernel.reshape(1, 1, 1, -1))
    return conv2d(pad(rows, [0, 0, half, half], mode="replicate"), kernel.reshape(1, 1, -1, 1))
