"""The numbers of one sweep, as plain data, and of a method, from all its sweeps.

The metrics get what is written: 8-bit images. A row holds counts and sums, so that a method's
score does not depend on which process made which of its rows.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones import ClipImages, SemanticSegmenter
from dofsuite.data.synthetic.color_segmenter import ColorSegmenter, is_color_segmenter
from dofsuite.evaluation.job import default_device
from dofsuite.evaluation.statistics import Estimate, Statistic, difference, estimate, ratio
from dofsuite.evaluation.tables import Cell
from dofsuite.evaluation.text2image.config import Text2ImageConfig
from dofsuite.evaluation.text2image.distance_intervals import fid_statistic, kid_statistic
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


def statistics_of(
    rows: Sequence[dict[str, Any]], photographs: ReferenceFeatures | None
) -> dict[str, Statistic]:
    """Return a method's scores as statistics over prompts; what was not measured is left out."""
    # Blur Monotonicity: shares of all pairs of neighboring apertures
    found = {}
    for mode in MODES:
        pairs = [row["blur"][mode]["pairs"] for row in rows]
        for title, count in ((f"BM {mode}", "rises"), (f"ties {mode}", "ties")):
            found[title] = ratio([row["blur"][mode][count] for row in rows], pairs)

    # Content Consistency: of all pixels; CLIP-I: of all apertures
    if rows[0]["consistency"] is not None:
        counts = [[row["consistency"][name] for row in rows] for name in ("agreeing", "counted")]
        if sum(counts[1]):
            found["CC"] = ratio(*counts)
        else:
            warnings.warn(
                "Content Consistency: no pixel has a class in two images; it is left out.",
                stacklevel=2,
            )
    if rows[0]["clip_to_last"] is not None:
        cosines = [row["clip_to_last"] for row in rows]
        found["CLIP-I"] = ratio(list(map(math.fsum, cosines)), list(map(len, cosines)))

    # KID and FID: of all images at once
    if photographs is not None and rows[0]["features"] is not None:
        prompts = [photographs.project(each) for each in features_of(rows)]
        found["KID"] = kid_statistic(photographs.features, prompts)
        if (fid := fid_statistic(photographs.features, prompts)) is not None:
            found["FID"] = fid
    return found


def scores_of(
    rows: Sequence[dict[str, Any]], photographs: ReferenceFeatures | None, seed: int
) -> list[Cell]:
    """Return a method's numbers for `COLUMNS`, None where nothing was measured."""
    found = statistics_of(rows, photographs)
    cells: list[Cell] = [
        estimate(found[name], seed) if name in found else None for name in COLUMNS[:-2]
    ]
    # KID and FID, which are of all images at once; the interval of KID
    if photographs is None or rows[0]["features"] is None:
        return [*cells, None, None]
    kid, fid = photographs.distances(torch.cat(features_of(rows)), seed)
    return [*cells, Estimate(kid, estimate(found["KID"], seed).interval), fid]


def features_of(rows: Sequence[dict[str, Any]]) -> list[Float[Tensor, "n d"]]:
    """Return the features of each prompt's images that are compared with photographs."""
    return [torch.tensor(row["features"], dtype=torch.float64) for row in rows]


def differences_of(
    own: Mapping[str, Statistic], base: Mapping[str, Statistic], seed: int
) -> list[Cell]:
    """Return one method's `statistics_of` minus another's, of the same prompts, for `COLUMNS`."""
    cells: list[Cell] = []
    for name in COLUMNS:
        is_measured = name in own and name in base
        cells.append(difference(own[name], base[name], seed) if is_measured else None)
    return cells


def relative_energy(rows: Sequence[dict[str, Any]], seed: int = 0) -> list[Cell]:
    """Return each aperture's energy around the mean over the last one's, as mean over prompts."""
    sweeps = [row["energy_ac"] for row in rows if row["energy_ac"][-1] > 0]
    if not sweeps:
        return [None] * len(rows[0]["energy_ac"])
    shares = [[energy / sweep[-1] for energy in sweep] for sweep in sweeps]
    ones = [1.0] * len(sweeps)
    return [estimate(ratio(column, ones), seed) for column in zip(*shares, strict=True)]
