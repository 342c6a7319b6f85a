"""Laplacian variance, a measure of fine detail, and its curve over a sweep of bokeh levels."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor
from torch.nn import functional

from dofsuite.metrics.guards import (
    check_window,
    display_sweep,
    display_values,
    finite_numbers,
)
from dofsuite.metrics.precision import tolerance, widen, widest_float
from dofsuite.optics import laplacian, srgb_to_luma
from dofsuite.optics.color import LUMA_BT601

# Pixels of a strip: its planes, 20 bytes a pixel, stay in a core's cache.
STRIP_PX = 1 << 16

# The bokeh levels of a sweep, in the order of its settings.
Levels = Sequence[float | int] | Num[Tensor, " s"]


@torch.no_grad()
def laplacian_variance(image: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "*batch"]:
    """Population variance of the 8-bit gray image's 4-neighbor Laplacian; larger is sharper.

        LV = var(Lap(round(0.299 R + 0.587 G + 0.114 B)))

    with R, G, B rounded to 0..255, BT.601 luma, border mirrored about the edge pixel (reflect 101):
    equal to `cv2.Laplacian(gray, cv2.CV_64F).var()`. Paper (DiffCamera, Bokeh Diffusion):
    "Laplacian variance". Here: with the 8-bit rounding of Generative Photography's
    comp_metrics/accuracy_by_CorrCoef, because it adds a floor of its own.

    Args:
        image: display values in [0, 1], any leading dimensions.

    Returns:
        One number for each image, float64 (float32 on devices that have none); without a gradient,
        because rounding has none.

    Raises:
        ValueError: on other values, a NaN, or no pixels.

    Example:
        >>> import torch
        >>> checkers = (torch.arange(8)[:, None] + torch.arange(8)) % 2
        >>> laplacian_variance(checkers.expand(3, 8, 8).float()).item() == (4 * 255) ** 2
        True
    """
    return _variances(display_values(image))


def _variances(values: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "*batch"]:
    images = values.reshape(-1, *values.shape[-3:])
    strips = _Strips(images)
    return torch.stack([strips.variance(image) for image in images]).reshape(values.shape[:-3])


class _Strips:
    """Laplacian variances of checked values, strip by strip in planes that are used again.

    New planes for each image would cost more than the arithmetic.
    """

    def __init__(self, images: Float[Tensor, "n 3 h w"]) -> None:
        self.height, self.width = images.shape[-2:]
        self.rows = self.height
        if images.device.type == "cpu":
            self.rows = min(self.height, max(1, STRIP_PX // self.width))
        size, device = (self.rows, self.width), images.device
        self.wide, self.luma = torch.empty(2, *size, dtype=widest_float(device), device=device)
        self.laplacian = torch.empty(size, device=device)
        # Gray levels with the mirrored border
        self.gray = torch.empty(self.height + 2, self.width + 2, device=device)

    def variance(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, ""]:
        # Gray levels; an axis of length 1 is its own neighbor, which adds nothing
        for top in range(0, self.height, self.rows):
            strip = image[:, top : top + self.rows]
            self.gray[top + 1 : top + 1 + strip.shape[1], 1:-1] = self.gray_of(strip)
        gray = self.gray
        height, width = self.height, self.width
        gray[0], gray[-1] = gray[min(2, height)], gray[max(1, height - 1)]
        gray[:, 0], gray[:, -1] = gray[:, min(2, width)], gray[:, max(1, width - 1)]
        # Sums of the Laplacian and of its square: of whole numbers, so exact in float64
        total = torch.zeros(2, dtype=self.wide.dtype, device=self.wide.device)
        for top in range(0, height, self.rows):
            end = min(top + self.rows, height)
            laplacian = torch.mul(
                gray[top + 1 : end + 1, 1:-1], -4, out=self.laplacian[: end - top]
            )
            laplacian.add_(gray[top:end, 1:-1]).add_(gray[top + 2 : end + 2, 1:-1])
            laplacian.add_(gray[top + 1 : end + 1, :-2]).add_(gray[top + 1 : end + 1, 2:])
            values = self.wide[: end - top].copy_(laplacian).view(-1)
            total[0] += values.sum()
            total[1] += values.dot(values)
        mean, mean_square = (total / (height * width)).unbind()
        variance: Tensor = mean_square - mean.square()
        return variance

    def gray_of(self, strip: Float[Tensor, "3 r w"]) -> Float[Tensor, "r w"]:
        """Rounded luma of the rounded 8-bit values."""
        luma, wide = self.luma[: strip.shape[1]], self.wide[: strip.shape[1]]
        for index, (channel, weight) in enumerate(zip(strip, LUMA_BT601, strict=True)):
            weighted = wide if index else luma
            weighted.copy_(channel).mul_(255).round_().mul_(weight)
            if index:
                luma.add_(wide)
        gray: Tensor = luma.round_()
        return gray


def checked_levels(bokeh_levels: Levels) -> Float[Tensor, " s"]:
    """The levels as a float64 tensor on the CPU.

    Raises:
        ValueError: if there are fewer than two different ones, or one is not finite.
    """
    return torch.tensor(finite_numbers(bokeh_levels, "bokeh_levels"), dtype=torch.float64)


@torch.no_grad()
def sharpness_curves(sweep: Tensor, num_levels: int, name: str = "preds") -> Float[Tensor, "b s"]:
    """Laplacian variance of each scene at each level.

    Raises:
        ValueError: if `sweep` is not [batch, num_levels, 3, h, w], floating-point and not empty.
    """
    return _variances(display_sweep(sweep, num_levels, name, "levels"))


def correlation_by_row(
    curves: Float[Tensor, "n s"], against: Float[Tensor, "n s"]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Pearson's correlation row by row, and which rows are constant up to rounding: 0 there."""
    a, b = (rows - rows.mean(dim=1, keepdim=True) for rows in (curves, against))
    norm_a, norm_b = a.norm(dim=1), b.norm(dim=1)
    rounding = tolerance(curves, 1e-9, 1e-5)
    constant = norm_a <= rounding * curves.norm(dim=1)
    constant |= norm_b <= rounding * against.norm(dim=1)
    correlation: Tensor = (a * b).sum(dim=1) / (norm_a * norm_b).masked_fill(constant, 1.0)
    return correlation.masked_fill(constant, 0.0), constant


def gain_of_ends(
    preds: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """log(LV(b_max) / LV(b_min)) over the truth's of sharpness at b_min and b_max, row by row.

    Sums or means over scenes: their number cancels. And which rows have no such number: 0 there.
    """
    gain = (preds[:, 1] / preds[:, 0]).log() / (target[:, 1] / target[:, 0]).log()
    is_none = ~gain.isfinite()
    return gain.masked_fill(is_none, 0.0), is_none


def local_sharpness(
    images: Float[Tensor, "n 3 h w"], points: Float[Tensor, "n 2"], window: float | int
) -> Float[Tensor, " n"]:
    """Mean square of the luma's Laplacian around one point (x, y) of each image."""
    check_window(window)
    # Mean energy in the window around every pixel.
    height, width = images.shape[-2:]
    margin = max(1, round(window * max(height, width) / 2))
    energy = laplacian(srgb_to_luma(widen(images))).square()
    mean = functional.avg_pool2d(
        energy, 2 * margin + 1, stride=1, padding=margin, count_include_pad=False
    )
    # Looked up at the points.
    column = (points[:, 0] * width).long().clamp(0, width - 1)
    row = (points[:, 1] * height).long().clamp(0, height - 1)
    return mean[torch.arange(len(images), device=images.device), 0, row, column]
