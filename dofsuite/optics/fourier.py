"""Convolution with the classical kernel by FFT: frame size, kernel spectrum, both transforms.

The kernel is even in both axes, so its spectrum is real, and a small cosine transform gives it: two
matrix products with the (reach + 1)^2 quarter of the kernel, cheaper than the FFT of a frame that
is nearly all zero.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dofsuite.optics.kernel import tap_weight


@dataclass(frozen=True)
class FourierFrame:
    """A height x width image, zero-padded so that circular convolution does not wrap into it."""

    height: int
    width: int
    reach_px: int

    @property
    def reach_yx(self) -> tuple[int, int]:
        """The reach along each axis: a tap as long as the image has no target in it."""
        return min(self.reach_px, self.height - 1), min(self.reach_px, self.width - 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height + reach, width + reach (not twice the reach), rounded up to fast FFT lengths."""
        reach_y, reach_x = self.reach_yx
        return quick_fft_length(self.height + reach_y), quick_fft_length(self.width + reach_x)

    def chunks(self, nodes: Tensor, batch_size: int) -> tuple[Tensor, ...]:
        """Split node numbers [L] into chunks that fit a cache (CPU) or keep a GPU busy."""
        floats_at_once = 2**18 if nodes.device.type == "cpu" else 2**25
        return torch.split(nodes, max(1, floats_at_once // (batch_size * 4 * math.prod(self.size))))

    def forward(self, images: Tensor) -> Tensor:
        """[..., h, w] real to the half spectrum [..., H, W // 2 + 1] of the padded image."""
        spectra: Tensor = torch.fft.rfft2(images, s=self.size)
        return spectra

    def inverse(self, spectra: Tensor) -> Tensor:
        padded: Tensor = torch.fft.irfft2(spectra, s=self.size)
        return padded[..., : self.height, : self.width]


class KernelSpectra:
    """Real spectra of classical kernels in a frame; computed in float64, returned in `dtype`."""

    def __init__(self, frame: FourierFrame, device: torch.device, dtype: torch.dtype) -> None:
        (reach_y, reach_x), (size_y, size_x) = frame.reach_yx, frame.size
        step_y = torch.arange(reach_y + 1, device=device)
        step_x = torch.arange(reach_x + 1, device=device)
        self.dtype = dtype
        self.chebyshev_px = torch.maximum(step_y[:, None], step_x)
        self.distance_px = torch.hypot(step_y[:, None].double(), step_x.double())
        self.cosines_y = _cosines(step_y, torch.arange(size_y, device=device), size_y)
        self.cosines_x = _cosines(step_x, torch.arange(size_x // 2 + 1, device=device), size_x)

    def __call__(self, radius_px: Tensor) -> Tensor:
        """Radii [...] to spectra [..., H, W // 2 + 1]; differentiable."""
        quarter = tap_weight(
            radius_px.double()[..., None, None], self.distance_px, self.chebyshev_px
        )
        return (self.cosines_y.mT @ quarter @ self.cosines_x).to(self.dtype)


def _cosines(step: Tensor, frequency: Tensor, size: int) -> Tensor:
    """cos(2 pi f s / size), doubled for steps s > 0 (they stand for -s too): [s, f], float64."""
    # The product is reduced as an integer first, so that the cosine's argument is exact.
    angle = (step[:, None] * frequency % size).double() * (2 * torch.pi / size)
    return torch.cos(angle) * torch.where(step > 0, 2.0, 1.0).double()[:, None]


def quick_fft_length(length: int) -> int:
    """The next even length without a prime factor above 7; a prime one costs five times as much."""
    candidate = length + length % 2
    while True:
        rest = candidate
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return candidate
        candidate += 2
