"""The image sheets of the report: reference, target, and the prediction of every method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

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
    by_source = [
        [scene.scene for scene in benchmark.scenes if scene.source == source] for source in SOURCES
    ]
    scenes = [scene for group in zip_longest(*by_source) for scene in group if scene]
    return [sheet(benchmark, results, scene) for scene in scenes[: max(0, num_scenes)]]


def sheet(benchmark: Benchmark, results: Sequence[MethodResults], scene: str) -> ImageSheet:
    # A column a sample; the focus point is marked on the reference
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
    rows += [
        (each.method.name, [shown(benchmark, each, sample) for sample in samples])
        for each in results
    ]
    reduced = [(name, [thumbnail(image, MAX_PX) for image in images]) for name, images in rows]
    return ImageSheet(scene, titles, reduced)


def shown(benchmark: Benchmark, results: MethodResults, sample: Sample) -> Tensor:
    # [3, h, w]; gray where the method has no prediction
    if sample.key not in results.rows:
        return torch.full((3, benchmark.size_px, benchmark.size_px), 0.75)
    return results.prediction(benchmark, sample)[0]
