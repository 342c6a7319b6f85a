"""Laplacian variance, a measure of fine detail, and its curve over a sweep of bokeh levels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from dofsuite.metrics.sweeps import check_sweep
from dofsuite.optics import laplacian, srgb_to_luma

# The bokeh levels of a sweep, in the order of its settings.
Levels = Sequence[float | int] | Num[Tensor, " s"]


def laplacian_variance(image: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "*batch"]:
    """Population variance of the 8-bit gray image's 4-neighbor Laplacian; larger is sharper.

        LV = var(Lap(round(0.299 R + 0.587 G + 0.114 B)))

    with R, G, B rounded to 0..255, BT.601 luma, border mirrored about the edge pixel (reflect 101):
    equal to `cv2.Laplacian(gray, cv2.CV_64F).var()`. Paper (DiffCamera, Bokeh Diffusion):
    "Laplacian variance". Here: with the 8-bit rounding of Generative Photography's
    comp_metrics/accuracy_by_CorrCoef, because it adds a floor of its own.

    Args:
        image: display values in [0, 1] (clamped to it), any leading dimensions.

    Returns:
        One number for each image, float64.

    Example:
        >>> import torch
        >>> checkers = (torch.arange(8)[:, None] + torch.arange(8)) % 2
        >>> laplacian_variance(checkers.expand(3, 8, 8).float()).item() == (4 * 255) ** 2
        True
    """
    levels_8bit = (image.double().clamp(0, 1) * 255).round()
    gray = srgb_to_luma(levels_8bit).round().squeeze(-3)
    return laplacian(gray).flatten(-2).var(dim=-1, correction=0)


def checked_levels(bokeh_levels: Levels) -> Float[Tensor, " s"]:
    """The levels as a float64 tensor.

    Raises:
        ValueError: if there are fewer than two different ones, or one is not finite.
    """
    levels = torch.as_tensor(bokeh_levels, dtype=torch.float64)
    if levels.ndim != 1 or not bool(levels.isfinite().all()) or bool((levels == levels[:1]).all()):
        raise ValueError(
            f"bokeh_levels must hold at least two different, finite levels, not {levels.tolist()}."
        )
    return levels


def sharpness_curves(sweep: Tensor, num_levels: int, name: str = "preds") -> Float[Tensor, "b s"]:
    """Laplacian variance of each scene at each level.

    Raises:
        ValueError: if `sweep` is not [batch, num_levels, 3, h, w], floating-point and not empty.
    """
    check_sweep(sweep, num_levels, name, "levels")
    return laplacian_variance(sweep)


def local_sharpness(
    images: Float[Tensor, "n 3 h w"], points: Float[Tensor, "n 2"], window: float | int
) -> Float[Tensor, " n"]:
    """Mean square of the luma's Laplacian around one point (x, y) of each image; float64."""
    if not 0 < window <= 1:
        raise ValueError(f"window must be a share of the long side in (0, 1], not {window}.")
    # Mean energy in the window around every pixel.
    height, width = images.shape[-2:]
    margin = max(1, round(window * max(height, width) / 2))
    energy = laplacian(srgb_to_luma(images.double())).square()
    mean = functional.avg_pool2d(
        energy, 2 * margin + 1, stride=1, padding=margin, count_include_pad=False
    )
    # Looked up at the points.
    column = (points[:, 0] * width).long().clamp(0, width - 1)
    row = (points[:, 1] * height).long().clamp(0, height - 1)
    return mean[torch.arange(len(images), device=images.device), 0, row, column]
