"""Convolution with the classical kernel by FFT: frame size, kernel spectrum, both transforms.

The round kernel is even in both axes, so its spectrum is real, and a small cosine transform gives
it: two matrix products with the (reach + 1)^2 quarter of the kernel, cheaper than the FFT of a
frame that is nearly all zero. A kernel of a long reach or of another shape is transformed by FFT.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dofsuite.optics.aperture import Aperture, clipped_gauge_px, polygon_gauge_px
from dofsuite.optics.kernel import tap_weight
from dofsuite.optics.meta import device_type

# Reach from which an FFT of the whole frame takes less arithmetic than the two matrix products.
FFT_REACH_PX = 48
# Radius from which a layer's blur is the classical kernel.
IDENTITY_PX = 0.5


@dataclass(frozen=True)
class FourierFrame:
    """A height x width image, zero-padded so that circular convolution does not wrap into it."""

    height: int
    width: int
    reach_px: int
    clear_px: tuple[int, int] = (0, 0)
    """Along each axis, how many pixels at either end of the image hold no light."""

    @property
    def reach_yx(self) -> tuple[int, int]:
        """The reach along each axis: a tap as long as the image has no target in it."""
        return min(self.reach_px, self.height - 1), min(self.reach_px, self.width - 1)

    @property
    def least_size(self) -> tuple[int, int]:
        """Height + reach, width + reach (not twice the reach)."""
        padding_y, padding_x = (
            max(0, reach - clear) for reach, clear in zip(self.reach_yx, self.clear_px, strict=True)
        )
        return self.height + padding_y, self.width + padding_x

    @property
    def size(self) -> tuple[int, int]:
        """Of the grid whose half spectrum is computed, rounded up to fast FFT lengths."""
        height, width = self.least_size
        return quick_fft_length(height), quick_fft_length(width)

    @property
    def full_size(self) -> tuple[int, int]:
        """Of the frame at the image's resolution."""
        return self.size

    @property
    def num_frequencies(self) -> int:
        return self.size[0] * (self.size[1] // 2 + 1)

    def chunks(self, nodes: Tensor, batch_size: int) -> tuple[Tensor, ...]:
        """Split node numbers [L] into chunks that fit a cache (CPU) or keep a GPU busy."""
        floats_at_once = 2**18 if device_type(nodes) == "cpu" else 2**25
        values = batch_size * 4 * math.prod(self.full_size)
        return torch.split(nodes, max(1, floats_at_once // values))

    def forward(self, images: Tensor) -> Tensor:
        """[..., h, w] real to the half spectrum [..., H, W // 2 + 1] of the padded image."""
        spectra: Tensor = torch.fft.rfft2(images, s=self.size)
        return spectra

    def inverse(self, spectra: Tensor) -> Tensor:
        padded: Tensor = torch.fft.irfft2(spectra, s=self.size)
        return padded[..., : self.height, : self.width]

    def inverse_adjoint(self, grad_images: Tensor) -> Tensor:
        """Gradients by `inverse`'s images to those by its spectra, as `forward_adjoint` takes."""
        return self.forward(grad_images)

    def forward_adjoint(self, spectra: Tensor) -> Tensor:
        """Gradients by `forward`'s spectra to those by its images."""
        return self.inverse(spectra)


class KernelSpectra:
    """Real spectra of classical kernels in a frame; computed in float64, returned in `dtype`."""

    def __init__(self, frame: FourierFrame, device: torch.device, dtype: torch.dtype) -> None:
        reach_y, reach_x = frame.reach_yx
        step_y = torch.arange(reach_y + 1, device=device)
        step_x = torch.arange(reach_x + 1, device=device)
        self.dtype, self.frame = dtype, frame
        self.chebyshev_px = torch.maximum(step_y[:, None], step_x)
        self.distance_px = torch.hypot(step_y[:, None].double(), step_x.double())
        # A negative frequency k - size has the cosine of k
        size_y, size_x = frame.size
        rows = torch.arange(size_y, device=device)
        rows = torch.minimum(rows, size_y - rows)
        columns = torch.arange(size_x // 2 + 1, device=device)
        self.cosines_y = _cosines(step_y, rows, frame.full_size[0])
        self.cosines_x = _cosines(step_x, columns, frame.full_size[1])

    def __call__(self, radius_px: Tensor) -> Tensor:
        """Radii [...], of any sign, to spectra [..., H, W // 2 + 1]; differentiable."""
        quarter = tap_weight(
            radius_px.double().abs()[..., None, None], self.distance_px, self.chebyshev_px
        )
        is_full = self.frame.size == self.frame.full_size
        if is_full and min(self.frame.reach_yx) > FFT_REACH_PX:
            return self._transformed(quarter).to(self.dtype)
        return (self.cosines_y.mT @ quarter @ self.cosines_x).to(self.dtype)

    def _transformed(self, quarter: Tensor) -> Tensor:
        """The spectrum of a kernel from the quarter of its taps at offsets of 0 or more."""
        # The tap at offset 0 belongs to the frame's first pixel, those before it to its end.
        (reach_y, reach_x), size = self.frame.reach_yx, self.frame.size
        half = torch.cat([quarter, quarter[..., 1:, :].flip(-2)], dim=-2)
        taps = quarter.new_zeros(*quarter.shape[:-2], *size)
        rows = torch.arange(-reach_y, reach_y + 1, device=taps.device).roll(-reach_y)
        columns = torch.arange(1, reach_x + 1, device=taps.device)
        taps[..., rows % size[0], : reach_x + 1] = half
        taps[..., (rows % size[0])[:, None], size[1] - columns] = half[..., 1:]
        spectra: Tensor = torch.fft.rfft2(taps).real
        return spectra

    def by_frequency(self, radius_px: Tensor) -> Tensor:
        """Radii [n] to spectra [H * (W // 2 + 1), n]: the same, frequencies first."""
        quarter = tap_weight(
            radius_px.double().abs(), self.distance_px[..., None], self.chebyshev_px[..., None]
        )
        along_x = self.cosines_x.mT @ quarter  # [reach_y + 1, W // 2 + 1, n]
        spectra = self.cosines_y.mT @ along_x.flatten(1)
        return spectra.to(self.dtype).reshape(-1, len(radius_px))


class ShapedKernelSpectra:
    """Complex spectra of another aperture's kernels in a frame; kernels computed in float64.

    `shift_yx` is the displacement of its cat's eye behind the focal plane, in radii.
    """

    def __init__(
        self,
        frame: FourierFrame,
        device: torch.device,
        dtype: torch.dtype,
        aperture: Aperture,
        shift_yx: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        # Offsets of the taps
        reach_y, reach_x = frame.reach_yx
        step_y = torch.arange(-reach_y, reach_y + 1, device=device)[:, None]
        step_x = torch.arange(-reach_x, reach_x + 1, device=device)
        self.frame, self.dtype = frame, dtype
        self.rows, self.columns = step_y % frame.size[0], step_x % frame.size[1]
        self.chebyshev_px = torch.maximum(step_y.abs(), step_x.abs())
        # Their gauge
        self.unclipped_px = self.gauge_px = polygon_gauge_px(aperture, step_y, step_x)
        if aperture.cat_eye > 0:
            along_px = (shift_yx[0] * step_y + shift_yx[1] * step_x).double()
            squared_shift = along_px.new_tensor(shift_yx[0] ** 2 + shift_yx[1] ** 2)
            squared_px2 = (step_y * step_y + step_x * step_x).double()
            clipped_px = clipped_gauge_px(self.gauge_px, squared_px2, along_px, squared_shift)
            self.gauge_px = torch.where(squared_px2 > 0, clipped_px, 0.0)

    def __call__(self, radius_px: Tensor) -> Tensor:
        """Signed radii [...] to spectra [..., H, W // 2 + 1]; differentiable."""
        radius_px = radius_px.double()[..., None, None]
        upright = tap_weight(radius_px.abs(), self.gauge_px, self.chebyshev_px)
        taps = torch.where(radius_px > 0, upright.flip(-2, -1), upright).to(self.dtype)
        # The tap at offset 0 belongs to the frame's first pixel.
        padded = taps.new_zeros(*taps.shape[:-2], *self.frame.size)
        padded[..., self.rows, self.columns] = taps
        spectra: Tensor = torch.fft.rfft2(padded)
        return spectra

    def unclipped_sums(self, radius_px: Tensor) -> Tensor:
        """The taps' sums [b, 1, 1] for radii [b] without the cat's eye, as in the center."""
        radius_px = radius_px.double().abs()[:, None, None]
        taps = tap_weight(radius_px, self.unclipped_px, self.chebyshev_px)
        return taps.sum((-2, -1), keepdim=True).to(self.dtype)


def spectra_by_frequency(
    frame: FourierFrame, radius_px: Tensor, dtype: torch.dtype, aperture: Aperture
) -> Tensor:
    """Spectra [H * (W // 2 + 1), v, L] for radii [v, L] of an aperture without a cat's eye."""
    radii_px = radius_px.flatten()
    if aperture.is_round:
        spectra = KernelSpectra(frame, radius_px.device, dtype).by_frequency(radii_px)
    else:
        shaped = ShapedKernelSpectra(frame, radius_px.device, dtype, aperture)
        spectra = shaped(radii_px).flatten(-2).mT
    return spectra.reshape(-1, *radius_px.shape)


def unit_spectrum(spectra: Tensor, sums: Tensor, radius_px: Tensor) -> Tensor:
    """Spectra [b, H, W // 2 + 1] over the kernels' sums [b, 1, 1], the identity at radius 0.

    The classical kernel is not quite the identity at 0: below IDENTITY_PX it is blended with it.
    Returned as [b, 1, H, W // 2 + 1].
    """
    mixed = (radius_px.abs() / IDENTITY_PX).clamp(max=1).to(sums.dtype)[:, None, None]
    return (1 + mixed * (spectra / sums - 1))[:, None]


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
