"""The numbers of one sweep, as plain data, and of a method, from all its sweeps.

The metrics get what is written: 8-bit images. A row holds counts and sums, so that a method's
score does not depend on which process made which of its rows.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones import ClipImages, SemanticSegmenter
from dofsuite.data.synthetic.color_segmenter import ColorSegmenter, is_color_segmenter
from dofsuite.evaluation.job import default_device
from dofsuite.evaluation.text2image.config import Text2ImageConfig
from dofsuite.evaluation.text2image.features import (
    FeatureExtractor,
    ReferenceFeatures,
    load_extractor,
)
from dofsuite.metrics import ImageEmbedder, Segmenter, blur_energy, clip_image_similarity
from dofsuite.metrics.consistency import Agreement, agreeing_pixels
from dofsuite.metrics.monotonicity import energy_steps

# Energies of Blur Monotonicity that the table has.
MODES: tuple[Literal["ac", "paper"], ...] = ("ac", "paper")
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
# Key of a method file's `published`: Blur Monotonicity over 100.
PUBLISHED = "blur_monotonicity"


@dataclass(frozen=True)
class Scorer:
    # For Content Consistency; None leaves it out.
    segmenter: Segmenter | None
    agreement: Agreement
    # For CLIP-I; None leaves it out.
    embedder: ImageEmbedder | None
    # For KID and FID; None leaves them out.
    extract: FeatureExtractor | None
    # Indices of the apertures whose images are compared with photographs.
    compared: tuple[int, ...]
    device: torch.device

    def row(self, sweep: Float[Tensor, "n 3 h w"]) -> dict[str, Any]:
        """Measure one prompt's images, in order of rising f-number, as written."""
        # Energies are summed on the CPU
        blur = {}
        for mode in MODES:
            steps = energy_steps(sweep[None], mode, "adjacent")[0]
            num_rises, num_ties = int((steps > 0).sum()), int((steps == 0).sum())
            blur[mode] = {"rises": num_rises, "ties": num_ties, "pairs": steps.numel()}

        # Networks
        on_device = sweep.to(self.device)
        consistency: dict[str, int | None] | None = None
        clip_to_last, features = None, None
        if self.segmenter is not None:
            agreeing, counted = agreeing_pixels(on_device[None], self.segmenter, self.agreement)
            classes = getattr(self.segmenter, "num_classes", None)
            consistency = {
                "agreeing": int(agreeing),
                "counted": int(counted),
                "num_classes": classes,
            }
        if self.embedder is not None:  # of every image to the last, which is the sharpest
            clip_to_last = [
                float(clip_image_similarity(each[None], on_device[-1:], self.embedder))
                for each in on_device[:-1]
            ]
        if self.extract is not None:
            features = self.extract(on_device[list(self.compared)]).cpu().tolist()
        return {
            "size_px": sweep.shape[-1],
            "blur": blur,
            "energy_ac": blur_energy(sweep, "ac").tolist(),
            "consistency": consistency,
            "clip_to_last": clip_to_last,
            "features": features,
        }


def load_scorer(config: Text2ImageConfig) -> Scorer:
    device, top_k = default_device(), config.classes_per_pixel
    segmenter: Segmenter | None = None
    if is_color_segmenter(config.segmenter):
        segmenter = ColorSegmenter(top_k)
    elif config.segmenter != "none":
        segmenter = SemanticSegmenter(config.segmenter, top_k=top_k).load().to(device)
    embedder = None if config.clip == "none" else ClipImages(config.clip).load().to(device)

    # Images that are compared with photographs
    compared = tuple(config.f_numbers.index(number) for number in config.compared_f_numbers)
    extract = load_extractor(config.feature_network, embedder, device)
    return Scorer(segmenter, Agreement(top_k), embedder, extract, compared, device)


def scores_of(
    rows: Sequence[dict[str, Any]],
    published: dict[str, float],
    photographs: ReferenceFeatures | None,
    seed: int,
) -> list[float | None]:
    """Return a method's numbers for `COLUMNS`, None where nothing was measured."""
    # Blur Monotonicity: shares of all pairs of neighboring apertures
    numbers: list[float | None] = [
        sum(row["blur"][mode][count] for row in rows)
        / sum(row["blur"][mode]["pairs"] for row in rows)
        for mode in MODES
        for count in ("rises", "ties")
    ]
    numbers += [published.get(PUBLISHED), mean_consistency(rows), mean_clip(rows)]

    # KID and FID
    if photographs is None or rows[0]["features"] is None:
        return [*numbers, None, None]
    features = torch.tensor([each for row in rows for each in row["features"]], dtype=torch.float64)
    return [*numbers, *photographs.distances(features, seed)]


def mean_consistency(rows: Sequence[dict[str, Any]]) -> float | None:
    if rows[0]["consistency"] is None:
        return None
    agreeing = sum(row["consistency"]["agreeing"] for row in rows)
    counted = sum(row["consistency"]["counted"] for row in rows)
    if counted == 0:
        warnings.warn(
            "Content Consistency: no pixel has a class in two images; it is left out.",
            stacklevel=2,
        )
        return None
    return agreeing / counted


def mean_clip(rows: Sequence[dict[str, Any]]) -> float | None:
    if rows[0]["clip_to_last"] is None:
        return None
    cosines = [cosine for row in rows for cosine in row["clip_to_last"]]
    return math.fsum(cosines) / len(cosines)


def relative_energy(rows: Sequence[dict[str, Any]]) -> list[float | None]:
    # Each aperture's energy around the mean over the last one's, as mean over prompts
    sweeps = [row["energy_ac"] for row in rows if row["energy_ac"][-1] > 0]
    if not sweeps:
        return [None] * len(rows[0]["energy_ac"])
    shares = [[energy / sweep[-1] for energy in sweep] for sweep in sweeps]
    return [math.fsum(column) / len(column) for column in zip(*shares, strict=True)]
