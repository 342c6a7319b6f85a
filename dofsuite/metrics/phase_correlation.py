"""How a picture lies on another one: sub-pixel shift and scale by phase correlation (*ours*).

Conventions: x to the right, y down; a point at `p` from the middle of the reference lies at
`scale * p + shift` from the middle of the result. Rotation is not looked for.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dofsuite.metrics.guards import check_same_shape, display_images, shape_of
from dofsuite.metrics.precision import widen
from dofsuite.optics import srgb_to_luma

# Below it no tile is left.
SMALLEST_PX = 16
# Tiles: at most so wide, at least five beside each other; each overlaps the next by half.
TILE_PX = 32
# The search begins at this size; a picture twice as large starts from its result.
COARSEST_PX = 128
# Scales of the search, 3 % apart.
SEARCHED_SCALES = tuple(1.03**k for k in range(-7, 8))
# Sigmas in px: of the high pass, and of the neighborhood whose energy is one.
HIGH_PASS_PX, NEIGHBORHOOD_PX = 2.0, 3.0
# Variance of rounding to 8 bit: a few times as much is no detail.
NO_DETAIL = 4 / 12 / 255**2
# What is compared, in cycles a pixel; while the pictures are still apart only the lower part,
# because of higher frequencies the phase is ambiguous.
BAND, FIRST_BAND = (1 / 16, 0.35), (1 / 16, 0.15)
# Fits are none with fewer tiles, a larger standard error, or phases that agree less (mean cosine;
# pictures of different things had at most .1, refocused ones with a common sharp place .8).
FEWEST_TILES, LEAST_COHERENCE = 4, 0.4
LARGEST_ERROR_PX = 0.25
# Gauss-Newton's steps in each band, and a step after which there is none.
MOST_STEPS, SMALLEST_STEP_PX = 5, 2e-3
# Added to what is divided by.
TINY = 1e-30


class AlignmentFit(NamedTuple):
    """How each result lies on its reference; NaN where nothing is sharp in both."""

    shift_px: Float[Tensor, "b 2"]  # (x, y), at the middle
    scale: Float[Tensor, " b"]
    error_px: Float[Tensor, " b"]  # standard error of the position, shift and scale together


@torch.no_grad()
def fit_alignment(
    preds: Float[Tensor, "b 3 h w"], reference: Float[Tensor, "b 3 h w"]
) -> AlignmentFit:
    """Sub-pixel shift and scale of each image against its reference, by phase correlation.

    High-passed luma, of one local strength, times one mask for both pictures (how sharp the
    blurrier one is against the other), is cut into overlapping tiles under a Hann window. The phase
    of a tile's cross spectrum is the tile's displacement d, phase(f) = -2 pi f . d, whatever a
    symmetric blur does to the amplitudes. Shift and scale are the weighted least squares fit

        minimize sum over tiles k, frequencies f of
            w_k(f) (phase_k(f) + 2 pi f . (shift + (scale - 1) p_k))^2

    with p_k the tile's place, f between 1/16 and .35 cycles a pixel, and w_k(f) the root of the
    cross spectrum's amplitude, of the sum of the mask in the tile, times cos(phase)^2. The result
    is warped back and fitted again, on a pyramid whose coarsest picture starts from the best phase
    correlation of the whole over scales from .81 to 1.23.

    Args:
        preds: the results, display values in [0, 1].
        reference: the pictures that they were made from, of the same size.

    Returns:
        See `AlignmentFit`. NaN where nothing is sharp in both or they show different things: fewer
        than 4 tiles, phases whose mean cosine is below .4, or a standard error above .25 px.

    Raises:
        ValueError: on another shape, size or range, or sides below 16 px.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> fit = fit_alignment(image.roll(2, dims=-1), image)
        >>> round(fit.shift_px[0, 0].item(), 2), round(fit.scale.item(), 3)
        (2.0, 1.0)
    """
    preds, reference = checked_pair(preds, reference)
    fits = [_fit(*pair) for pair in zip(_luma(preds), _luma(reference), strict=True)]
    position, error_px = (torch.stack(each) for each in zip(*fits, strict=True))
    position = position.masked_fill(error_px[:, None].isnan(), math.nan)
    return AlignmentFit(position[:, :2], position[:, 2], error_px)


def checked_pair(preds: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both clamped to [0, 1]; ValueError on other shapes, sizes and ranges, or below 16 px."""
    preds, reference = display_images(preds), display_images(reference, "reference")
    check_same_shape(reference, preds, "reference")
    if min(preds.shape[-2:]) < SMALLEST_PX:
        raise ValueError(
            f"preds must be at least {SMALLEST_PX} px a side to be aligned, not {shape_of(preds)}."
        )
    return preds, reference


def _luma(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    return srgb_to_luma(widen(images))[:, 0]


def _fit(pred: Float[Tensor, "h w"], reference: Float[Tensor, "h w"]) -> tuple[Tensor, Tensor]:
    # Return (x, y, scale) and its standard error in pixels, NaN where there is none
    # The pyramid, coarsest last; cropped so that every second pixel is dropped evenly
    levels = max(0, math.ceil(math.log2(max(pred.shape) / COARSEST_PX)))
    height, width = (side - side % 2**levels for side in pred.shape)
    pyramid = [(pred[:height, :width], reference[:height, :width])]
    for _ in range(levels):
        finer = torch.stack(pyramid[-1])
        coarser = functional.avg_pool2d(finer, 2)
        pyramid.append((coarser[0], coarser[1]))

    # Search at the coarsest: nearly always the scale is almost 1
    position, error = _search(*pyramid[-1], (1.0,))
    if bool(error.isnan()):
        position, error = _search(*pyramid[-1], SEARCHED_SCALES)
    # Refine: a shift doubles from one level to the next
    for pair in reversed(pyramid[:-1]):
        position = position * position.new_tensor([2.0, 2.0, 1.0])
        position, error = _refine(*pair, position, BAND)
    return position, error


def _warp_back(pred: Tensor, position: Float[Tensor, "3"]) -> tuple[Tensor, Tensor]:
    # The result seen at the reference's pixels, and which pixels lie inside it
    sides = []
    for size, shift in zip(reversed(pred.shape), position, strict=False):
        pixels = torch.arange(size, dtype=pred.dtype, device=pred.device) - (size - 1) / 2
        sides.append((position[2] * pixels + shift) * (2 / size))
    grid = torch.stack(torch.meshgrid(*sides, indexing="xy"), dim=-1)
    warped = functional.grid_sample(
        pred[None, None], grid[None], "bicubic", "reflection", align_corners=False
    )
    return warped[0, 0], (grid.abs() <= 1).all(dim=-1)


def _frequencies(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    # Cycles a pixel of `rfft2`, of x and of y
    options: Any = {"dtype": like.dtype, "device": like.device}
    fy, fx = torch.fft.fftfreq(height, **options), torch.fft.rfftfreq(width, **options)
    return fx.expand(height, -1), fy[:, None].expand(-1, len(fx))


def _spectrum(tiles: Float[Tensor, "*k h w"]) -> Tensor:
    # Without the mean, under a Hann window
    rows, columns = (
        torch.hann_window(size, periodic=False, dtype=tiles.dtype, device=tiles.device)
        for size in tiles.shape[-2:]
    )
    centered = tiles - tiles.mean(dim=(-2, -1), keepdim=True)
    spectrum: Tensor = torch.fft.rfft2(centered * torch.outer(rows, columns))
    return spectrum


def _search(
    pred: Tensor, reference: Tensor, scales: Sequence[float]
) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
    # The best phase correlation of the whole pictures over some scales, to whole pixels; refined
    height, width = reference.shape
    frequency = torch.hypot(*_frequencies(height, width, reference))
    band = (frequency > 1 / 64) * torch.exp(-((frequency / FIRST_BAND[1]) ** 2))
    true, best = _spectrum(reference), -math.inf
    found = reference.new_tensor([0.0, 0.0, 1.0])
    for scale in scales:
        # Nearly white, so that the peak is narrow
        warped, _ = _warp_back(pred, reference.new_tensor([0.0, 0.0, scale]))
        cross = _spectrum(warped) * true.conj()
        cross = cross * band / cross.abs().clamp(min=TINY) ** 0.7
        correlation = torch.fft.irfft2(cross, s=(height, width))
        height_of_peak = float(correlation.max() / cross.abs().sum().clamp(min=TINY))
        if height_of_peak > best:
            row, column = divmod(int(correlation.argmax()), width)
            y = (row + height // 2) % height - height // 2
            x = (column + width // 2) % width - width // 2
            best, found = height_of_peak, reference.new_tensor([x * scale, y * scale, scale])
    found, _ = _refine(pred, reference, found, FIRST_BAND)
    return _refine(pred, reference, found, BAND)


def _refine(
    pred: Tensor,
    reference: Tensor,
    position: Float[Tensor, "3"],
    band: tuple[float, float],
) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
    # Gauss-Newton: warp back, fit what is left, add it, until it is nothing
    tiles = _Tiles(reference)
    error = reference.new_tensor(math.nan)
    for _ in range(MOST_STEPS):
        warped, is_inside = _warp_back(pred, position)
        step, error = tiles.fit(warped, is_inside, band)
        shift = position[:2] + position[2] * step[:2]
        position = torch.cat([shift, position[2:] * (1 + step[2:])])
        if bool((step[:2].norm() + step[2].abs() * tiles.half_px) < SMALLEST_STEP_PX):
            break
    return position, error


def _detail(image: Float[Tensor, "h w"]) -> tuple[Tensor, Tensor]:
    # The high-passed picture at one strength everywhere, and its energy above that of rounding:
    # where only the strength differed, one side of a tile would pull it
    high = image - _blurred(image, HIGH_PASS_PX)
    energy = (_blurred(high.square(), NEIGHBORHOOD_PX) - NO_DETAIL).clamp(min=0)
    return high / (energy + NO_DETAIL).sqrt(), energy


def _blurred(image: Float[Tensor, "h w"], sigma_px: float) -> Float[Tensor, "h w"]:
    radius = math.ceil(3 * sigma_px)
    place = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(place**2) / (2 * sigma_px**2))
    kernel = (kernel / kernel.sum()).reshape(1, 1, 1, -1)
    padded = functional.pad(image[None, None], [radius] * 4, mode="replicate")
    blurred: Tensor = functional.conv2d(functional.conv2d(padded, kernel), kernel.mT)[0, 0]
    return blurred


class _Tiles:
    """The reference's tiles, to which a picture is fitted."""

    def __init__(self, reference: Float[Tensor, "h w"]) -> None:
        self.size_px = 2 * max(4, min(TILE_PX, min(reference.shape) // 5) // 2)
        self.detail, self.energy = _detail(reference)
        self.fx, self.fy = _frequencies(self.size_px, self.size_px, reference)
        self.frequency = torch.hypot(self.fx, self.fy)
        # Places of the tiles' middles, over half of the long side: the fit is then in pixels
        self.half_px = max(reference.shape) / 2
        places = []
        for size in reversed(reference.shape):
            line = torch.arange(size, dtype=reference.dtype, device=reference.device)
            middle = line.unfold(0, self.size_px, self.size_px // 2).mean(dim=1)
            places.append((middle - (size - 1) / 2) / self.half_px)
        self.x, self.y = (each.flatten() for each in torch.meshgrid(*places, indexing="xy"))

    def cut(self, image: Float[Tensor, "h w"]) -> Float[Tensor, "k size size"]:
        size, step = self.size_px, self.size_px // 2
        return image.unfold(0, size, step).unfold(1, size, step).flatten(0, 1)

    def fit(
        self, warped: Float[Tensor, "h w"], is_inside: Tensor, band: tuple[float, float]
    ) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
        """Shift in px and relative scale of what is left, and the standard error in px."""
        # One mask for both: inside, and equally sharp
        detail, energy = _detail(warped)
        low, high = torch.minimum(energy, self.energy), torch.maximum(energy, self.energy)
        mask = low / high.clamp(min=TINY) * is_inside
        spectra = [_spectrum(self.cut(each * mask)) for each in (detail, self.detail)]
        cross = spectra[0] * spectra[1].conj()

        # Tiles count as much as their mask, frequencies by the root of their amplitude
        phase = cross.angle()
        lowest, highest = band
        weight = cross.abs().sqrt() * ((self.frequency >= lowest) & (self.frequency <= highest))
        weight = weight / weight.sum(dim=(-2, -1), keepdim=True).clamp(min=TINY)
        weight = weight * self.cut(mask).mean(dim=(-2, -1))[:, None, None]
        coherence = (weight * phase.cos()).sum() / weight.sum().clamp(min=TINY)
        # Phases of more than a quarter turn are of something else
        weight = weight * phase.cos().clamp(min=0).square()

        # Normal equations of every tile, for its own shift
        ax, ay = -2 * math.pi * self.fx, -2 * math.pi * self.fy
        normal = [(weight * a).sum(dim=(-2, -1)) for a in (ax * ax, ax * ay, ay * ay)]
        right = [(weight * phase * a).sum(dim=(-2, -1)) for a in (ax, ay)]
        step, error = self.solve(normal, right)
        return step, error.masked_fill(coherence < LEAST_COHERENCE, math.nan)

    def solve(
        self, normal: Sequence[Tensor], right: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
        """The common shift and scale, from every tile's equations."""
        # Each tile moves by (shift_x + x zoom, shift_y + y zoom)
        xx, xy, yy = torch.stack(list(normal)).unbind()
        zoom_x, zoom_y = self.x * xx + self.y * xy, self.x * xy + self.y * yy
        zoom = self.x * zoom_x + self.y * zoom_y
        rows = torch.stack([xx, xy, zoom_x, xy, yy, zoom_y, zoom_x, zoom_y, zoom], dim=-1)
        tiles = rows.reshape(-1, 3, 3)
        total = tiles.sum(dim=0)
        used = xx + yy
        count = used.sum().square() / used.square().sum().clamp(min=TINY)
        if count < FEWEST_TILES:
            return torch.zeros_like(total[0]), total.new_tensor(math.nan)
        eye = torch.eye(3, dtype=total.dtype, device=total.device)
        inverse = torch.linalg.inv(total + 1e-9 * total.diagonal().mean() * eye)
        rx, ry = right
        scores = torch.stack([rx, ry, self.x * rx + self.y * ry], dim=-1)
        step = inverse @ scores.sum(dim=0)

        # Standard error, by the scatter of the tiles around the fit
        left = scores - tiles @ step
        covariance = inverse @ (left.T @ left) @ inverse * count / (count - 3)
        error = covariance.diagonal().sum().sqrt()
        error = error.masked_fill(error > LARGEST_ERROR_PX, math.nan)
        return torch.cat([step[:2], step[2:] / self.half_px]), error
