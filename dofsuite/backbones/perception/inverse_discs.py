"""Wiener inverses of out-of-focus discs: a bank of finite filters, without weights.

A disc of radius r multiplies the spectrum of linear light by H, close to 2 J1(2 pi r f) / (2 pi r
f), which is 0 at f = .61 / r, 1.12 / r, ...; Wiener's inverse is H / (H^2 + n), n the ratio of
noise to signal. Photographs have spectra of about 1 / f^2, so n = k (f / .25)^2. Kernels are
tapered to a finite reach, so that tiles with that margin give what the whole image gives.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

# Points of a pixel's side at which a disc is sampled, and the grid that inverses are designed on.
SAMPLES, DESIGN_PX = 15, 512
# Noise to signal k = factor * radius ** power: 8 bits without noise, and noise of about 2 / 255
# (*ours*; near the best of each radius for coffee, Chelsea and the motorcycle).
NOISE_TO_SIGNAL = ((0.0004, 1.2), (0.03, 0.2))
# Spectra of more points are computed anew each time, to save memory.
KEPT_PX = 512**2
# Gradients of light below this are noise (*ours*).
SMALLEST_GRADIENT = 1e-3


def disc_kernel(radius_px: float) -> Float[Tensor, "k k"]:
    """Return the share of each pixel that lies in a disc, over the disc's area, in float64."""
    reach = int(radius_px) + 1
    side = 2 * reach + 1
    steps = (torch.arange(side * SAMPLES, dtype=torch.float64) + 0.5) / SAMPLES - side / 2
    inside = torch.hypot(steps[:, None], steps[None, :]) <= radius_px
    kernel = inside.double().reshape(side, SAMPLES, side, SAMPLES).mean((1, 3))
    return kernel / kernel.sum()


def spectrum(kernel: Float[Tensor, "k k"], size: Sequence[int]) -> Float[Tensor, "h f"]:
    """Return the half spectrum, real, of a kernel that is symmetric about its center."""
    reach = kernel.shape[-1] // 2
    # The center to the corner
    padded = pad(kernel, (0, size[1] - kernel.shape[-1], 0, size[0] - kernel.shape[-2]))
    return torch.fft.rfft2(padded.roll((-reach, -reach), (-2, -1))).real


def inverse_kernel(radius_px: float, noise_to_signal: float, reach_px: int) -> Tensor:
    """Return a disc's Wiener inverse [2 reach_px + 1, 2 reach_px + 1] that leaves the mean.

    Args:
        radius_px: Of the disc.
        noise_to_signal: At a quarter of a cycle per pixel.
        reach_px: How far it reaches, below half of `DESIGN_PX`.
    """
    # On a large grid
    size = (DESIGN_PX, DESIGN_PX)
    disc = spectrum(disc_kernel(radius_px), size)
    frequency = torch.hypot(
        torch.fft.fftfreq(DESIGN_PX, dtype=torch.float64)[:, None],
        torch.fft.rfftfreq(DESIGN_PX, dtype=torch.float64),
    )
    inverse = disc / (disc.square() + noise_to_signal * (frequency / 0.25).square())
    kernel = torch.fft.irfft2(inverse, s=size).roll((reach_px, reach_px), (0, 1))
    kernel = kernel[: 2 * reach_px + 1, : 2 * reach_px + 1]
    # It fades from its center on: rings far away need the radius more exactly than it is known
    steps = torch.arange(-reach_px, reach_px + 1, dtype=torch.float64)
    distance = torch.hypot(steps[:, None], steps[None, :]) / (reach_px + 0.5)
    fade = (1 - distance).clamp(0, 1)
    kernel = kernel * fade.square() * (3 - 2 * fade)
    return kernel / kernel.sum()


class InverseDiscs(nn.Module):
    """Inverses of several radii, each for several levels of noise."""

    kernels: Tensor

    def __init__(self, radii_px: Sequence[float], reach_px: int) -> None:
        super().__init__()
        self.reach_px = reach_px
        kernels = [
            inverse_kernel(radius, factor * radius**power, reach_px)
            for radius in radii_px
            for factor, power in NOISE_TO_SIGNAL
        ]
        shape = (len(radii_px), len(NOISE_TO_SIGNAL), 2 * reach_px + 1, 2 * reach_px + 1)
        self.register_buffer("kernels", torch.stack(kernels).reshape(shape).float(), False)
        self._kept: dict[int, Tensor] = {}
        self._kept_for: tuple[tuple[int, int], torch.device] | None = None

    def spectra(self, number: int, size: tuple[int, int]) -> Float[Tensor, "m h f"]:
        """Return the spectra of a radius' filters at a size; small ones of one size are kept."""
        device = self.kernels.device
        if self._kept_for != (size, device):
            self._kept, self._kept_for = {}, (size, device)
        if number in self._kept:
            return self._kept[number]
        spectra = torch.stack([spectrum(kernel, size) for kernel in self.kernels[number]])
        if size[0] * size[1] <= KEPT_PX:
            self._kept[number] = spectra
        return spectra

    def light_spectrum(
        self, light: Float[Tensor, "b c h w"], pad_px: int
    ) -> tuple[Tensor, tuple[int, int]]:
        """Return the half spectrum of light whose border is repeated, and the padded size.

        Args:
            light: Linear.
            pad_px: Pixels that the border is repeated; with `reach_px` nothing wraps around.
        """
        height, width = (side + 2 * pad_px for side in light.shape[-2:])
        # Sides that are quick to transform
        below, right = -height % 16, -width % 16
        padding = (pad_px, pad_px + right, pad_px, pad_px + below)
        padded = pad(light, padding, mode="replicate")
        return torch.fft.rfft2(padded), (height + below, width + right)

    def filtered(
        self, light: Float[Tensor, "b c h w"], pad_px: int, numbers: Sequence[int] | None = None
    ) -> Iterator[Float[Tensor, "b m c h w"]]:
        """Yield the light filtered by the inverses of each radius, one for each level of noise.

        Args:
            light: Linear.
            pad_px: Pixels that the border is repeated; with `reach_px` nothing wraps around.
            numbers: Of the radii; None: all.
        """
        of_light, size = self.light_spectrum(light, pad_px)
        inside = (
            ...,
            slice(pad_px, pad_px + light.shape[-2]),
            slice(pad_px, pad_px + light.shape[-1]),
        )
        for number in range(len(self.kernels)) if numbers is None else numbers:
            product = of_light[:, None] * self.spectra(number, size)[None, :, None]
            yield torch.fft.irfft2(product, s=size)[inside]


def log_gradients(light: Float[Tensor, "b m h w"], cell_px: int) -> Float[Tensor, "b f r s"]:
    """Return log mean |gradient| and log of the root mean square in each cell."""
    right = pad(light.diff(dim=-1), (0, 1)).abs()
    down = pad(light.diff(dim=-2), (0, 0, 0, 1)).abs()
    mean = avg_pool2d(right + down, cell_px)
    square = avg_pool2d(right.square() + down.square(), cell_px)
    least = SMALLEST_GRADIENT
    return torch.cat([(mean + least).log(), (square + least**2).log() / 2], 1)
