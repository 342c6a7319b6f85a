"""Laplacian variance, a measure of fine detail, and its curve over a sweep of bokeh levels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor

from dofsuite.metrics.guards import display_sweep, display_values, finite_numbers
from dofsuite.metrics.precision import widen, widest_float
from dofsuite.optics.color import LUMA_BT601

# Pixels of a strip: its float64 planes stay in a core's cache.
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
    return torch.stack([_variance_of(each) for each in images]).reshape(values.shape[:-3])


def _variance_of(image: Float[Tensor, "3 h w"]) -> Float[Tensor, ""]:
    """Laplacian variance of checked values, strip by strip: sums of whole numbers, so exact."""
    height, width = image.shape[-2:]
    rows = max(1, STRIP_PX // width) if image.device.type == "cpu" else height
    # Gray levels with the mirrored border; an axis of length 1 adds nothing.
    gray = torch.empty(height + 2, width + 2, device=image.device)
    for top in range(0, height, rows):
        gray[top + 1 : min(top + rows, height) + 1, 1:-1] = _gray(image[:, top : top + rows])
    gray[0], gray[-1] = gray[min(2, height)], gray[max(1, height - 1)]
    gray[:, 0], gray[:, -1] = gray[:, min(2, width)], gray[:, max(1, width - 1)]
    # Sums of the Laplacian and of its square
    total = torch.zeros(2, dtype=widest_float(image.device), device=image.device)
    for top in range(0, height, rows):
        end = min(top + rows, height)
        laplacian = gray[top + 1 : end + 1, 1:-1].mul(-4)
        laplacian.add_(gray[top:end, 1:-1]).add_(gray[top + 2 : end + 2, 1:-1])
        laplacian.add_(gray[top + 1 : end + 1, :-2]).add_(gray[top + 1 : end + 1, 2:])
        values = widen(laplacian).flatten()
        total[0] += values.sum()
        total[1] += values.dot(values)
    mean, mean_square = (total / (height * width)).unbind()
    variance: Tensor = mean_square - mean.square()
    return variance


def _gray(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    """Rounded luma of the rounded 8-bit values."""
    # In the values' own precision, unless it makes a tie that may be none
    scaled = (image if image.dtype == torch.float64 else image.float()) * 255
    levels_8bit = scaled.round()
    if scaled.dtype == torch.float32 and float(scaled.sub_(levels_8bit).abs_().max()) == 0.5:
        levels_8bit = (widen(image) * 255).round_()
    # Weighted channel by channel, in place
    red, green, blue = (
        channel.mul_(weight) for channel, weight in zip(widen(levels_8bit), LUMA_BT601, strict=True)
    )
    luma: Tensor = red.add_(green).add_(blue)
    return luma.round_()


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
