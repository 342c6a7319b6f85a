"""The pictures of the report: what was given, what is true, and what every method made of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dofsuite.evaluation.refocus.tables import MethodResults
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.evaluation.report import ImageSheet
from dofsuite.images import draw_marker, thumbnail

SHOWN_PX = 192
"""Larger pictures are reduced to this, so that the report stays a file that one can send."""


def sheets(
    benchmark: Benchmark, answered: Sequence[MethodResults], scenes: int
) -> list[ImageSheet]:
    """Return a sheet for each of some scenes: a column a sample; the focus point is marked on the picture given.

    Args:
        benchmark: What was asked.
        answered: All methods.
        scenes: How many, taken from the sources in turn.
    """
    return [
        sheet(benchmark, answered, scene) for scene in scenes_in_turn(benchmark)[: max(0, scenes)]
    ]


def scenes_in_turn(benchmark: Benchmark) -> list[str]:
    """Return the scenes, the first of every source first."""
    groups = [
        [scene.scene for scene in benchmark.scenes if scene.source == source] for source in SOURCES
    ]
    longest = max(map(len, groups), default=0)
    return [group[number] for number in range(longest) for group in groups if number < len(group)]


def sheet(benchmark: Benchmark, answered: Sequence[MethodResults], scene: str) -> ImageSheet:
    """Return a scene's sheet; where a method has no answer its picture is grey."""
    samples = [sample for sample in benchmark.samples if sample.scene == scene]
    titles = [
        f"{sample.key.split('/')[1].replace('_', ' ')}: b = {sample.bokeh_level:g}"
        for sample in samples
    ]
    given = [
        draw_marker(benchmark.picture(sample.reference)[0], torch.tensor(sample.focus_point))
        for sample in samples
    ]
    rows = [
        ("given", given),
        ("truth", [benchmark.picture(sample.target)[0] for sample in samples]),
    ]
    rows += [
        (one.method.name, [answer_of(benchmark, one, sample) for sample in samples])
        for one in answered
    ]
    return ImageSheet(
        scene,
        titles,
        [(name, [thumbnail(picture, SHOWN_PX) for picture in pictures]) for name, pictures in rows],
    )


def answer_of(benchmark: Benchmark, one: MethodResults, sample: Sample) -> Tensor:
    """Return an answer, or grey."""
    if sample.key not in one.rows:
        return torch.full((3, benchmark.size_px, benchmark.size_px), 0.75)
    return one.picture(benchmark, sample)[0]
