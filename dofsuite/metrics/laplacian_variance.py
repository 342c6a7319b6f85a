"""Laplacian variance: how much fine detail a picture has, as LVCorr's users compute it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.optics import laplacian, srgb_to_luma


def laplacian_variance(image: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "*batch"]:
    """Population variance of the 4-neighbour Laplacian of the 8-bit BT.601 luma (larger is sharper).

    Equal to `cv2.Laplacian(grey, cv2.CV_64F).var()` on the rounded luma: ksize 1, border reflect-101 (Generative Photography,
    comp_metrics/accur_bokehK.py). Computed in float64.

    Args:
        image: Display values in [0, 1].
    """
    shape = image.shape
    flat = image.reshape(-1, *shape[-3:]).double().clamp(0, 1)
    luma = (srgb_to_luma((flat * 255).round()) + 0.5).floor()
    return laplacian(luma).flatten(1).var(dim=1, correction=0).reshape(shape[:-3])


def check_sweep(sweep: Tensor, settings: int | None, name: str) -> None:
    """Refuse what is no sweep [batch, settings, 3, h, w].

    Raises:
        ValueError: The shape is another one, or the number of settings.
    """
    if sweep.ndim != 5 or sweep.shape[2] != 3:
        raise ValueError(f"{name} must have shape [batch, settings, 3, h, w], not {list(sweep.shape)}.")
    if settings is not None and sweep.shape[1] != settings:
        raise ValueError(f"{name} has {sweep.shape[1]} settings for {settings} bokeh_levels.")


def check_levels(bokeh_levels: Tensor) -> Tensor:
    """Return levels as float64 [settings].

    Raises:
        ValueError: There are fewer than two, or all are equal.
    """
    levels = bokeh_levels.double().flatten()
    if len(levels) < 2 or bool((levels == levels[0]).all()):
        raise ValueError(f"bokeh_levels must hold at least two different levels, not {levels.tolist()}.")
    return levels
