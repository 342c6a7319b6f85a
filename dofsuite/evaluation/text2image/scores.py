"""The numbers of one sweep, as plain data, and of a method, from all its sweeps.

The metrics see what is written: 8-bit pictures. A row holds counts and sums, so that a method's
score does not depend on which process made which of its rows.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones import ClipImages, SemanticSegmenter
from dofsuite.data.synthetic.color_segmenter import ColorSegmenter, is_color_segmenter
from dofsuite.evaluation.job import default_device
from dofsuite.evaluation.text2image.features import (
    FeatureExtractor,
    ReferenceFeatures,
    load_extractor,
)
from dofsuite.metrics import ImageEmbedder, Segmenter, blur_energy, clip_image_similarity
from dofsuite.metrics.consistency import Agreement, agreeing_pixels
from dofsuite.metrics.monotonicity import energy_steps

MODES = ("ac", "paper")
"""Energies of Blur Monotonicity that the table has."""
COLUMNS = (
    "BM ac",
    "ties ac",
    "BM paper",
    "ties paper",
    "published BM",
    "CC",
    "CLIP-I",
    "KID",
    "FID",
)
PUBLISHED = "blur_monotonicity"
"""Key of a method file's `published`: Blur Monotonicity over 100."""


@dataclass(frozen=True)
class Scorer:
    """What a sweep is measured with.

    Attributes:
        segmenter: For Content Consistency; None leaves it out.
        agreement: Its options.
        embedder: For CLIP-I; None leaves it out.
        look: For KID and FID; None leaves them out.
        compared: Numbers of the apertures whose pictures are compared with photographs.
        device: Where the networks are.
    """

    segmenter: Segmenter | None
    agreement: Agreement
    embedder: ImageEmbedder | None
    look: FeatureExtractor | None
    compared: tuple[int, ...]
    device: torch.device

    def row(self, sweep: Float[Tensor, "n 3 h w"]) -> dict[str, Any]:
        """Measure one prompt's pictures, in order of rising f-number, as written."""
        steps = {mode: energy_steps(sweep[None], mode, "adjacent")[0] for mode in MODES}
        seen = sweep.to(self.device)
        return {
            "size_px": sweep.shape[-1],
            "blur": {
                mode: {"rises": int((s > 0).sum()), "ties": int((s == 0).sum()), "pairs": s.numel()}
                for mode, s in steps.items()
            },
            "energy_ac": blur_energy(sweep, "ac").tolist(),
            "consistency": None if self.segmenter is None else self._consistency(seen),
            "clip_to_last": None if self.embedder is None else self._to_last(seen),
            "features": None
            if self.look is None
            else self.look(seen[list(self.compared)]).cpu().tolist(),
        }

    def _consistency(self, sweep: Tensor) -> dict[str, int | None]:
        agreeing, counted = agreeing_pixels(sweep[None], self.segmenter, self.agreement)
        classes = getattr(self.segmenter, "num_classes", None)
        return {"agreeing": int(agreeing), "counted": int(counted), "num_classes": classes}

    def _to_last(self, sweep: Tensor) -> list[float]:
        """CLIP-I of every picture to the last, which is the sharpest."""
        return [
            float(clip_image_similarity(each[None], sweep[-1:], self.embedder))
            for each in sweep[:-1]
        ]


def scorer_of(arguments: argparse.Namespace) -> Scorer:
    """Load segmenter, CLIP and feature network.

    Raises:
        UserError: One of them cannot be loaded.
    """
    device = default_device()
    segmenter = embedder = None
    if is_color_segmenter(arguments.segmenter):
        segmenter = ColorSegmenter(arguments.top_k)
    elif arguments.segmenter != "none":
        segmenter = SemanticSegmenter(arguments.segmenter, top_k=arguments.top_k).load().to(device)
    if arguments.clip != "none":
        embedder = ClipImages(arguments.clip).load().to(device)
    compared = tuple(arguments.f_numbers.index(number) for number in arguments.compared)
    look = load_extractor(arguments.features, embedder, device)
    return Scorer(segmenter, Agreement(arguments.top_k), embedder, look, compared, device)


def scores_of(
    rows: Sequence[dict[str, Any]],
    published: dict[str, float],
    photographs: ReferenceFeatures | None,
    seed: int,
) -> list[float | None]:
    """Return a method's numbers for `COLUMNS`, None where nothing was measured."""
    numbers: list[float | None] = []
    for mode in MODES:
        pairs = sum(row["blur"][mode]["pairs"] for row in rows)
        numbers += [
            sum(row["blur"][mode][count] for row in rows) / pairs for count in ("rises", "ties")
        ]
    numbers += [published.get(PUBLISHED), _consistency_of(rows), _clip_of(rows)]
    if photographs is None or rows[0]["features"] is None:
        return [*numbers, None, None]
    features = torch.tensor([each for row in rows for each in row["features"]], dtype=torch.float64)
    return [*numbers, *photographs.distances(features, seed)]


def _consistency_of(rows: Sequence[dict[str, Any]]) -> float | None:
    if rows[0]["consistency"] is None:
        return None
    agreeing, counted = (
        sum(row["consistency"][name] for row in rows) for name in ("agreeing", "counted")
    )
    if counted == 0:
        warnings.warn(
            "Content Consistency: no pixel has a class in two pictures; it is left out.",
            stacklevel=2,
        )
        return None
    return agreeing / counted


def _clip_of(rows: Sequence[dict[str, Any]]) -> float | None:
    if rows[0]["clip_to_last"] is None:
        return None
    cosines = [cosine for row in rows for cosine in row["clip_to_last"]]
    return math.fsum(cosines) / len(cosines)


def relative_energy(rows: Sequence[dict[str, Any]]) -> list[float | None]:
    """Return each aperture's energy around the mean over that of the last, as the mean over prompts."""
    shares = [
        [energy / row["energy_ac"][-1] for energy in row["energy_ac"]]
        for row in rows
        if row["energy_ac"][-1] > 0
    ]
    if not shares:
        return [None] * len(rows[0]["energy_ac"])
    return [math.fsum(column) / len(column) for column in zip(*shares, strict=True)]
