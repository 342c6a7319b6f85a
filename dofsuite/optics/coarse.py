"""Convolution of an image with wide discs at half or a quarter of its resolution, by FFT.

A disc of radius r lets 1.6 (2 pi r f)^-1.5 of a frequency of f cycles a pixel pass: of f = 1/4 and
more, what half the resolution does not have, less than 0.7 % at 24 px. Light that such discs
scatter is averaged by (1, 3, 3, 1) / 8 along both axes and halved, once or twice, and transformed
there. In the spectrum, what the averages took off a frequency, cos^3(pi f) each, is given back, and
the coarse grid is put in its place; the inverse FFT of the full frame, with the missing frequencies
0, interpolates. The kernel's spectrum is that of its taps at full resolution. So what is missing is
frequencies that the disc hardly lets pass, and what is added is their alias at low ones, at most
tan^3(pi f) of it. The adjoints are exact. The method is *ours*.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dofsuite.optics.fourier import FourierFrame, quick_fft_length

# Sum of the weights by which an axis is averaged.
WEIGHTS_SUM = 8


@dataclass(frozen=True)
class CoarseFrame(FourierFrame):
    """A frame whose spectra are those of a grid `2^halvings` times as coarse."""

    halvings: int = 1

    @property
    def scale(self) -> int:
        return 1 << self.halvings

    @property
    def size(self) -> tuple[int, int]:
        height, width = (
            quick_fft_length(math.ceil(length / self.scale)) for length in self.least_size
        )
        return height, width

    @property
    def full_size(self) -> tuple[int, int]:
        height, width = self.size
        return self.scale * height, self.scale * width

    def forward(self, images: Tensor) -> Tensor:
        for _ in range(self.halvings):
            images = halved(halved(images, -1), -2)
        spectra: Tensor = torch.fft.rfft2(images, s=self.size)
        return spectra

    def inverse(self, spectra: Tensor) -> Tensor:
        # The low frequencies of the full frame; rfft2's columns are filled up with 0
        half = self.size[0] // 2
        spectra = spectra * self._restored(spectra)
        full = spectra.new_zeros(*spectra.shape[:-2], self.full_size[0], spectra.shape[-1])
        full[..., :half, :] = spectra[..., :half, :]
        full[..., -half:, :] = spectra[..., -half:, :]
        padded: Tensor = torch.fft.irfft2(full, s=self.full_size)
        return padded[..., : self.height, : self.width]

    def inverse_adjoint(self, grad_images: Tensor) -> Tensor:
        half = self.size[0] // 2
        full = torch.fft.rfft2(grad_images, s=self.full_size)[..., : self.size[1] // 2 + 1]
        spectra = torch.cat([full[..., :half, :], full[..., -half:, :]], dim=-2)
        return spectra * self._restored(spectra).conj() / self.scale**2

    def forward_adjoint(self, spectra: Tensor) -> Tensor:
        images: Tensor = torch.fft.irfft2(spectra, s=self.size)
        sizes = [(self.height, self.width)]
        for _ in range(self.halvings):
            sizes.append((halved_length(sizes[-1][0]), halved_length(sizes[-1][1])))
        images = images[..., : sizes[-1][0], : sizes[-1][1]]
        for height, width in reversed(sizes[:-1]):
            images = halved_adjoint(halved_adjoint(images, -2, height), -1, width)
        return images

    def _restored(self, like: Tensor) -> Tensor:
        """Factors [H, W // 2 + 1] from the coarse grid's spectrum to the full frame's."""
        rows = torch.fft.fftfreq(self.size[0], 1 / self.size[0], device=like.device)
        columns = torch.arange(self.size[1] // 2 + 1, device=like.device)
        axes = [
            self._restored_axis(frequency.double() / length)
            for frequency, length in zip((rows, columns), self.full_size, strict=True)
        ]
        return (axes[0][:, None] * axes[1]).to(like.dtype)

    def _restored_axis(self, frequency: Tensor) -> Tensor:
        """Along one axis, from cycles a pixel; 0 at the coarse grid's own Nyquist frequency."""
        gain = torch.ones_like(frequency)
        for halving in range(self.halvings):
            gain *= WEIGHTS_SUM * torch.cos(torch.pi * frequency * 2**halving) ** 3
        # The first coarse sample lies half a pixel before the first pixel, or one and a half
        phase = torch.pi * (self.scale - 1) * frequency
        kept = frequency.abs() < 0.5 / self.scale
        return torch.polar(self.scale / gain * kept, phase)


def halved_length(length: int) -> int:
    return (length + 1) // 2 + 1


def halved(images: Tensor, dim: int) -> Tensor:
    """Weighted sums by (1, 3, 3, 1) along an axis, from before its first value to after its last.

    At every other place: the first half a value before the first.
    """
    length = images.shape[dim]
    padding = (2, 2 + length % 2)
    padded = functional.pad(images, padding if dim == -1 else (0, 0, *padding))
    even, odd = padded.unfold(dim, 2, 2).unbind(-1)
    count = halved_length(length)
    inner = odd.narrow(dim, 0, count) + even.narrow(dim, 1, count)
    outer = even.narrow(dim, 0, count) + odd.narrow(dim, 1, count)
    return torch.add(outer, inner, alpha=3)


def halved_adjoint(sums: Tensor, dim: int, length: int) -> Tensor:
    """The adjoint of `halved`, for an axis of `length`: linear interpolation, times 4."""
    count, position = sums.shape[dim] - 1, sums.ndim + dim
    before, after = sums.narrow(dim, 0, count), sums.narrow(dim, 1, count)
    even, odd = torch.add(after, before, alpha=3), torch.add(before, after, alpha=3)
    values = torch.stack([even, odd], dim=position + 1).flatten(position, position + 1)
    return values.narrow(position, 0, length)
