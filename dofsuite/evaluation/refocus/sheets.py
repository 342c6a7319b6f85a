"""The image sheets of the report: reference, target, and the prediction of every method."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dofsuite.evaluation.refocus.tables import MethodResults
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.evaluation.report import ImageSheet
from dofsuite.images import draw_marker, thumbnail

# Larger images are reduced to this, so that the report stays a file that one can send.
MAX_PX = 192


def sheets(
    benchmark: Benchmark, results: Sequence[MethodResults], num_scenes: int
) -> list[ImageSheet]:
    """Return a sheet for each of some scenes, taken from the sources in turn."""
    scenes = interleave_sources(benchmark)[: max(0, num_scenes)]
    return [sheet(benchmark, results, scene) for scene in scenes]


def interleave_sources(benchmark: Benchmark) -> list[str]:
    """Return the scenes, the first of every source first."""
    ranks: list[tuple[int, int, str]] = []
    for order, source in enumerate(SOURCES):
        scenes = [scene.scene for scene in benchmark.scenes if scene.source == source]
        ranks += [(index, order, scene) for index, scene in enumerate(scenes)]
    return [scene for _, _, scene in sorted(ranks)]


def sheet(benchmark: Benchmark, results: Sequence[MethodResults], scene: str) -> ImageSheet:
    """Return a scene's sheet: a column a sample; the focus point is marked on the reference."""
    samples = [sample for sample in benchmark.samples if sample.scene == scene]
    titles = [
        f"{sample.key.split('/')[1].replace('_', ' ')}: b = {sample.bokeh_level:g}"
        for sample in samples
    ]

    # References and targets, then the predictions
    references = [
        draw_marker(benchmark.image(sample.reference)[0], torch.tensor(sample.focus_point))
        for sample in samples
    ]
    targets = [benchmark.image(sample.target)[0] for sample in samples]
    rows = [("given", references), ("truth", targets)]
    for each in results:
        rows.append((each.method.name, [shown(benchmark, each, sample) for sample in samples]))
    reduced = [(name, [thumbnail(image, MAX_PX) for image in images]) for name, images in rows]
    return ImageSheet(scene, titles, reduced)


def shown(benchmark: Benchmark, results: MethodResults, sample: Sample) -> Tensor:
    """Return a prediction [3, h, w]; gray where the method has none."""
    if sample.key not in results.rows:
        return torch.full((3, benchmark.size_px, benchmark.size_px), 0.75)
    return results.prediction(benchmark, sample)[0]
