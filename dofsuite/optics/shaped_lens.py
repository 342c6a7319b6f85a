"""The lens of a depth layer (`occlusion.py`) for an aperture that is not round.

One radius per item, so a polygon is one convolution. A cat's eye is one for each window of
`windows.py`: the smaller the layer's radius, the fewer windows it takes.
"""

import torch
from torch import Tensor

from dofsuite.optics.aperture import Aperture, Tile
from dofsuite.optics.fourier import ShapedKernelSpectra, unit_spectrum
from dofsuite.optics.meta import has_values
from dofsuite.optics.windows import SHIFT_STEP, windows_of

# Windows also lie so far apart that the cat's eye's edge moves by this much from one to the next.
EDGE_STEP_PX = 0.15


class ShapedLens:
    """Blurs a layer with one signed radius per item, by a mean of the light within the frame."""

    def __init__(
        self,
        aperture: Aperture,
        tile: Tile | None,
        fft_dtype: torch.dtype,
    ) -> None:
        self.aperture, self.tile = aperture, tile
        self.fft_dtype = fft_dtype

    def blur(self, layer: Tensor, kernel_radius_px: Tensor, reach_px: int) -> Tensor:
        """Blur [b, c, h, w] by radii [b], none of which reaches farther than `reach_px`."""
        # Windows for this layer's radius
        largest_px = float(reach_px)
        if has_values(kernel_radius_px):
            largest_px = float(kernel_radius_px.detach().abs().max())
        step = max(SHIFT_STEP, EDGE_STEP_PX / max(largest_px, EDGE_STEP_PX))
        light = layer.to(self.fft_dtype)
        windows = windows_of(light, self.aperture, self.tile, int(largest_px) + 1, step)
        # Light and weight that the windows send
        sums, weights = torch.zeros_like(light), torch.zeros_like(light[:, :1])
        for window in windows:
            spectra = ShapedKernelSpectra(
                window.frame, layer.device, self.fft_dtype, self.aperture, window.shift_yx
            )
            kernel_sums = spectra.unclipped_sums(kernel_radius_px)
            kernel = unit_spectrum(spectra(kernel_radius_px), kernel_sums, kernel_radius_px)
            share = window.weight.expand(1, 1, window.frame.height, window.frame.width)
            weight_spectrum = window.frame.forward(share)
            window.of(weights).add_(window.frame.inverse(kernel * weight_spectrum))
            source = window.of(light) * window.weight
            # A pixel without light may have a gradient.
            if not layer.requires_grad and has_values(layer) and not bool(source.any()):
                continue
            window.of(sums).add_(window.frame.inverse(kernel * window.frame.forward(source)))
        return (sums / weights).to(layer.dtype)
