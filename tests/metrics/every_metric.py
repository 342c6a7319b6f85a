"""Every metric of the room with its function twin and images to score: what tests of all of them
go through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from dofsuite.metrics import (
    Alignment,
    BlurGain,
    BlurMonotonicity,
    CLIPImageSimilarity,
    ContentConsistency,
    FocusHitRate,
    LVCorr,
    blur_gain,
    blur_monotonicity,
    clip_image_similarity,
    content_consistency,
    focus_hit_rate,
    lv_corr,
    misalignment,
)
from tests.metrics.conftest import LEVELS, sweep_of_contrast


class Case(NamedTuple):
    """A metric, its function over all scenes at once, and what both are given."""

    make: Callable[[], Metric]
    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]


def three_classes(images: Tensor) -> Tensor:
    """A segmenter of forty classes: each channel's value in fortieths."""
    return (images * 40).long().clamp(0, 39)


def quadrants(images: Tensor) -> Tensor:
    """An embedder: the mean of each channel in each quarter of the image, around gray."""
    return torch.nn.functional.adaptive_avg_pool2d(images - 0.5, 2).flatten(1)


def every_metric() -> dict[str, Case]:
    """Name -> case; seven scenes, the last three of them with the settings turned round."""
    preds, target = (
        sweep_of_contrast([1, 0.5, 0.4, 0.3], 7),
        sweep_of_contrast([1, 0.8, 0.7, 0.6], 7, seed=1),
    )
    preds[4:] = preds[4:].flip(1)
    points = torch.rand(7, 2, 2, generator=torch.Generator().manual_seed(0))
    cases = {
        "focus_hit_rate": Case(FocusHitRate, focus_hit_rate, (preds[:, :2], points)),
        "blur_gain": Case(
            lambda: BlurGain(LEVELS), lambda p, t: blur_gain(p, t, LEVELS), (preds, target)
        ),
        "content_consistency": Case(
            lambda: ContentConsistency(three_classes, num_classes=40),
            lambda p: content_consistency(p, three_classes),
            (preds,),
        ),
        "clip_i": Case(
            lambda: CLIPImageSimilarity(quadrants),
            lambda p, r: clip_image_similarity(p, r, quadrants),
            (preds[:, 0], target[:, 0]),
        ),
    }
    for quantity in ("shift", "scale", "color"):
        # Every scene moves by a pixel: there is something to find
        cases[f"alignment_{quantity}"] = Case(
            lambda quantity=quantity: Alignment(quantity),
            lambda p, r, quantity=quantity: misalignment(p, r, quantity).mean(),
            (preds[:, 0].roll(1, dims=-1), preds[:, 0]),
        )
    for mode in ("paper", "ac", "high_band", "laplacian"):
        cases[f"blur_monotonicity_{mode}"] = Case(
            lambda mode=mode: BlurMonotonicity(mode=mode),
            lambda p, mode=mode: blur_monotonicity(p, mode),
            (preds,),
        )
    for variant in ("level_mean", "level_per_scene", "genphoto_diff"):
        cases[f"lv_corr_{variant}"] = Case(
            lambda variant=variant: LVCorr(LEVELS, variant),
            lambda p, t, variant=variant: lv_corr(p, LEVELS, variant, t),
            (preds, target),
        )
    return cases
