"""The classical scatter by layers and FFT for an aperture that is not round.

As in `layered.py`, with two differences. The two sides of the focal plane show the shape
point-reflected, so that where it is not symmetric each node has a layer for either side. And where
the shape depends on the place in the photograph (a cat's eye), each window of `windows.py` has
kernels of its own. In a window few nodes have pixels; the others are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dofsuite.optics.aperture import BlurShape
from dofsuite.optics.fourier import ShapedKernelSpectra
from dofsuite.optics.layered import NEAR_PX, RadiusNodes, near_taps, repaired_sums
from dofsuite.optics.windows import Window, windows_of


@dataclass(frozen=True)
class ShapedLayers:
    """The scatter and its adjoint for a batch whose shapes are given."""

    largest_radius_px: float
    num_layers: int
    fft_dtype: torch.dtype
    shape: BlurShape

    def scatter(self, light: Tensor, radius_px: Tensor) -> Tensor:
        # Pixels with a small radius, by taps.
        taps = near_taps(self.largest_radius_px, self.shape)
        if self.largest_radius_px < NEAR_PX:
            return taps.scatter(light, radius_px)
        sums = taps.scatter(light * (radius_px < NEAR_PX), radius_px)
        # All others: in each window a convolution per node, summed up in the frequency domain.
        nodes = RadiusNodes.of(radius_px.to(self.fft_dtype), self.num_layers)
        light_fft = light.to(self.fft_dtype)
        for window in self.windows(light_fft):
            spectrum = None
            source = (window.of(light_fft) * window.weight)[:, :, None]
            for inside, chunk, spectra in self.layers(nodes, window):
                layer_spectra = window.frame.forward(source * inside.hat(chunk)[:, None])
                layer_spectra.mul_(spectra[:, None])  # [b, 4, k, H, W // 2 + 1]
                for layer_spectrum in layer_spectra.unbind(2):
                    spectrum = layer_spectrum if spectrum is None else spectrum.add_(layer_spectrum)
            if spectrum is not None:
                window.of(sums).add_(window.frame.inverse(spectrum))
        # Sums that FFT rounding brought below their bounds are repaired.
        return repaired_sums(sums, light, nodes.item_largest_px)

    def scatter_adjoint(
        self, grad_sums: Tensor, light: Tensor, radius_px: Tensor
    ) -> tuple[Tensor, Tensor]:
        # Pixels with a small radius, by taps.
        taps = near_taps(self.largest_radius_px, self.shape)
        grad_light, grad_radius = taps.scatter_adjoint(grad_sums, light, radius_px)
        if self.largest_radius_px < NEAR_PX:
            return grad_light, grad_radius
        is_near = radius_px < NEAR_PX
        grad_light, grad_radius = grad_light * is_near, grad_radius * is_near
        # All others: the adjoint of a convolution has the conjugate spectrum.
        nodes = RadiusNodes.of(radius_px.to(self.fft_dtype), self.num_layers)
        light_fft, grad_fft = light.to(self.fft_dtype), grad_sums.to(self.fft_dtype)
        for window in self.windows(light_fft):
            spectrum = window.frame.forward(window.of(grad_fft))[:, :, None]
            source = window.of(light_fft)[:, :, None]
            for inside, chunk, spectra in self.layers(nodes, window):
                returned = window.frame.inverse(spectrum * spectra.conj()[:, None])
                returned = returned * window.weight
                window.of(grad_light).add_((returned * inside.hat(chunk)[:, None]).sum(2))
                grad_hat = (returned * source).sum(1)  # [b, k, h, w]
                grad_inside = (grad_hat * inside.hat_slope(chunk)).sum(1, keepdim=True)
                window.of(grad_radius).add_(grad_inside)
        return grad_light, grad_radius

    def windows(self, light: Tensor) -> list[Window]:
        reach_px = int(self.largest_radius_px) + 1
        return windows_of(light, self.shape.aperture, self.shape.tile, reach_px)

    def layers(
        self, nodes: RadiusNodes, window: Window
    ) -> Iterator[tuple[RadiusNodes, Tensor, Tensor]]:
        """The window's pixels of either side, some of their nodes, and these nodes' spectra."""
        is_front = self.shape.is_front
        sides = [(is_front, 1.0), (~is_front, -1.0)]
        if self.shape.aperture.is_point_symmetric:
            sides = [(torch.ones_like(is_front), -1.0)]
        device = nodes.position.device
        spectra = ShapedKernelSpectra(
            window.frame, device, self.fft_dtype, self.shape.aperture, window.shift_yx
        )
        for selected, sign in sides:
            # A window's margin has no light.
            selected = window.of(selected) & (window.weight > 0)
            inside = nodes.within(window.rows, window.columns, selected)
            for chunk in window.frame.chunks(inside.in_use, batch_size=len(selected)):
                if len(chunk):
                    kernels = spectra(sign * inside.radius_px(chunk))
                    yield inside, chunk, kernels
