"""Inverse filters of discs: what a photograph would be if it had been defocused by each radius.

With H the transfer function of a disc and f the frequency in cycles per pixel,

    W(f) = H(f) / (H(f)^2 + k f^2)

is the Wiener filter where the power spectrum of photographs falls as 1 / f^2 and that of noise is
flat. Two k for each radius, for little noise and for more. Filters are cut to a window, so that
they need no more than `REACH_PX` around a pixel. Chosen on Chelsea and coffee (*ours*): the filter
nearest to the true radius gains 1.6 to 3.3 dB there.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from dofsuite.optics import linear_to_srgb, srgb_to_linear, srgb_to_luma
from dofsuite.optics.kernel import tap_weight

# 1 to 9 px; neighbors differ by 22 %.
RADII_PX = tuple(9 ** (k / 11) for k in range(12))
REACH_PX = 40
# Size of the grid on which filters are computed, before they are cut.
GRID_PX = 160
KEPT_UP_TO_PX = 256


def noise_to_signal(radius_px: float) -> tuple[float, float]:
    """Return k for little noise and for more; larger discs have more frequencies that are lost."""
    wide = max(1.0, radius_px / 2.5)
    return 0.06 * wide**2, 0.6 * wide


def wiener_filter(radius_px: float, k: float) -> Float[Tensor, "n n"]:
    """Return a disc's inverse filter, of sum 1, cut to 2 `REACH_PX` + 1 a side."""
    # The disc of the renderers, around the grid's origin
    steps = torch.fft.fftfreq(GRID_PX, dtype=torch.float64) * GRID_PX
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    radius = torch.tensor(radius_px, dtype=torch.float64)
    disc = tap_weight(radius, torch.hypot(down, right), torch.maximum(down.abs(), right.abs()))

    # Its inverse
    transfer = torch.fft.fft2(disc / disc.sum()).real
    inverse = transfer / (transfer**2 + k * (down**2 + right**2) / GRID_PX**2)
    taps = torch.fft.fftshift(torch.fft.ifft2(inverse).real)

    # Cut, falling to 0 over the outer half
    middle = GRID_PX // 2
    window = slice(middle - REACH_PX, middle + REACH_PX + 1)
    distance = torch.fft.fftshift(torch.hypot(down, right))[window, window]
    taps = taps[window, window] * (2 - 2 * distance / (REACH_PX + 1)).clamp(0, 1)
    return (taps / taps.sum()).float()


class WienerBank(nn.Module):
    """The detail that each filter adds to an image's luma."""

    # [filters, n, n]
    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = [wiener_filter(r, k) for r in RADII_PX for k in noise_to_signal(r)]
        # Not saved: it follows from the constants above
        self.register_buffer("taps", torch.stack(filters), persistent=False)
        # Of small images, whose transfer functions take as long as their answers
        self._kept: dict[tuple[int, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self.taps)

    def forward(self, image_srgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b filters h w"]:
        """Return display luma after each filter in linear light, minus display luma.

        Beyond the frame the border is repeated.
        """
        # Convolution by FFT; what wraps around lies in the margin, which is cut off
        luma = srgb_to_luma(image_srgb)
        height, width = luma.shape[-2:]
        margin = (REACH_PX,) * 4
        light = pad(srgb_to_linear(luma.float()), margin, mode="replicate")
        size = tuple(-(-side // 32) * 32 for side in light.shape[-2:])
        spectrum = torch.fft.rfft2(light, s=size) * self._transfer(size).to(light.device)
        filtered = torch.fft.irfft2(spectrum, s=size)
        first = 2 * REACH_PX
        inside = filtered[..., first : first + height, first : first + width]
        return (linear_to_srgb(inside.clamp(0, 1)) - luma).to(image_srgb.dtype)

    def _transfer(self, size: tuple[int, ...]) -> Tensor:
        height, width = size
        if (height, width) in self._kept:
            return self._kept[height, width]
        transfer = torch.fft.rfft2(self.taps, s=size)
        if max(size) <= KEPT_UP_TO_PX:
            self._kept[height, width] = transfer
        return transfer
