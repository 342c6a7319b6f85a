"""The pictures of the report: best, median and worst scenes on it, every scene on a page beside it.

A sheet shows reference, target, and the prediction of every method.
"""

import html
import math
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import torch
from torch import Tensor
from tqdm import tqdm

from dofsuite.evaluation.plots import COLORS, Curve, Mark, curve_plot, dot_plot
from dofsuite.evaluation.refocus.estimates import sharpness_by_level
from dofsuite.evaluation.refocus.report import USING_TRUTH, MethodResults, judged
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.evaluation.report import HEAD, ImageSheet, sheet_html
from dofsuite.evaluation.statistics import estimate, ratio
from dofsuite.files import write_text
from dofsuite.images import draw_marker, thumbnail

# Larger images are reduced to this on a sheet, so that the report stays a file that one can send.
MAX_PX = 192
# Scenes that the plot points out.
NUM_WORST = 3
PAGES = "scenes"


def scene_errors(benchmark: Benchmark, results: MethodResults) -> dict[str, float]:
    """Return the mean MAE of each scene of which the method covers a sample, from best to worst."""
    values: dict[str, list[float]] = {}
    for sample in benchmark.samples:
        if sample.key in results.rows:
            values.setdefault(sample.scene, []).append(results.rows[sample.key]["mae"])
    means = {scene: math.fsum(own) / len(own) for scene, own in values.items()}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def figures(
    benchmark: Benchmark, results: Sequence[MethodResults], seed: int, with_pages: bool = True
) -> list[str]:
    """Return the plots: sharpness against level, MAE by scene with the worst ones linked."""
    parts = []
    if len(benchmark.bokeh_levels) > 1:
        parts.append(sharpness_plot(benchmark, results, seed))

    # Scenes in the order of the judged method's error; it comes first, those with the renderer that
    # made the truth are left out
    first = judged(results)
    others = [each for each in results if each.method.name not in USING_TRUTH and each is not first]
    ordered = [first, *others][: len(COLORS)]
    errors = [scene_errors(benchmark, each) for each in ordered]
    scenes = list(errors[0])
    curves = [
        Curve(each.method.name, [own.get(scene) for scene in scenes])
        for each, own in zip(ordered, errors, strict=True)
    ]
    count = min(NUM_WORST, len(scenes))
    marks = [
        Mark(scenes[index], index, page_of(scenes[index]) if with_pages else "")
        for index in range(len(scenes) - 1, len(scenes) - 1 - count, -1)
    ]
    title = f"MAE by scene, in order of {first.method.name}'s; the worst ones by name"
    parts.append(dot_plot(title, f"{len(scenes)} scenes", curves, marks))
    return [*parts, scene_list(scenes)] if with_pages else parts


def sharpness_plot(benchmark: Benchmark, results: Sequence[MethodResults], seed: int) -> str:
    # Curves, the truth's first; bands for it and for the judged method
    complete, first = max(results, key=lambda each: len(each.rows)), judged(results)
    truth = sharpness_by_level(benchmark, complete.rows, "target_sharpness")
    named = [("truth", truth, True)]
    named += [
        (
            each.method.name,
            sharpness_by_level(benchmark, each.rows, "sharpness"),
            each is first,
        )
        for each in results
    ]
    # Mean and interval of each level, over the scenes of which all levels are covered
    curves = []
    for name, totals, has_band in named:
        if not bool(totals[:, -1].any()):
            continue
        counts = totals[:, -1].tolist()
        points = [
            estimate(ratio(totals[:, level].tolist(), counts), seed)
            for level in range(totals.shape[1] - 1)
        ]
        bands = [point.interval for point in points] if has_band else []
        curves.append(Curve(name, [point.value for point in points], bands))
    ticks = [f"{level:g}" for level in sorted(benchmark.bokeh_levels)]
    title = "Sharpness (Laplacian variance) against bokeh level, 95 % bands"
    return curve_plot(title, "bokeh level", ticks, curves, is_log=True)


def page_of(scene: str) -> str:
    # Relative to the report
    return f"{PAGES}/{quote(scene)}.html"


def scene_list(scenes: Sequence[str]) -> str:
    links = [f"<a href='{page_of(scene)}'>{html.escape(scene)}</a>" for scene in scenes]
    return f"<details><summary>All scenes, the best first</summary>{', '.join(links)}</details>"


def sheets(
    benchmark: Benchmark,
    results: Sequence[MethodResults],
    num_scenes: int,
    with_pages: bool = True,
) -> list[ImageSheet]:
    """Return the sheets of the best, the median and the worst scene, or as many between them."""
    first = judged(results)
    errors = scene_errors(benchmark, first)
    scenes, count = list(errors), min(max(0, num_scenes), len(errors))
    ranks = [len(scenes) // 2] if count == 1 else []
    if count > 1:
        ranks = [round(k * (len(scenes) - 1) / (count - 1)) for k in range(count)]
    names = {0: "best", len(scenes) - 1: "worst"}
    chosen = []
    for rank in ranks:
        scene = scenes[rank]
        place = names.get(rank, f"rank {rank + 1} of {len(scenes)}")
        title = f"{scene}: {place} by {first.method.name}, MAE {errors[scene]:.4f}"
        own = sheet(benchmark, results, scene)
        chosen.append(own._replace(title=title, link=page_of(scene) if with_pages else ""))
    return chosen


def write_pages(folder: Path, benchmark: Benchmark, results: Sequence[MethodResults]) -> None:
    """Write a page a scene below `folder`, from best to worst, each linked to its neighbors.

    Raises:
        UserError: The folder cannot be written.
    """
    scenes = list(scene_errors(benchmark, judged(results)))
    for rank, scene in enumerate(tqdm(scenes, desc="scene pages", disable=None)):
        links = ["<a href='../report.html'>report</a>"]
        if rank > 0:
            links.append(f"<a href='{quote(scenes[rank - 1])}.html'>better</a>")
        if rank + 1 < len(scenes):
            links.append(f"<a href='{quote(scenes[rank + 1])}.html'>worse</a>")
        parts = [HEAD.format(title=html.escape(scene)), f"<p>{' · '.join(links)}</p>"]
        parts += [sheet_html(sheet(benchmark, results, scene)), "</body></html>", ""]
        write_text(folder / PAGES / f"{scene}.html", "\n".join(parts))


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
