"""The numbers of a method, from the scores of its samples, each as a statistic over scenes."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.evaluation.statistics import Statistic, ratio
from dofsuite.metrics.sharpness import correlation_by_row, gain_of_ends

# Column -> key in a row.
SCORES = {
    "CLIP-I": "clip_i",
    "EfficientNet": "efficientnet",
    "MAE": "mae",
    "PSNR": "psnr",
    "LPIPS": "lpips",
    "DISTS": "dists",
    "ST-LPIPS": "st_lpips",
    "CLIP-IQA": "clip_iqa",
}
# Columns of the samples that could be measured.
ALIGNMENT = {"shift px": "shift_px", "scale error": "scale_error", "color drift": "color_drift"}
MEASURED = "share aligned"
TASKS = ("refocus", "bokeh", "deblur")
HIT_RATE = "focus hit rate"
# The scores of samples by key.
Rows = dict[str, dict[str, Any]]


# What a table says of one method: the number of samples, and a statistic for every column.
class Columns(NamedTuple):
    samples: int
    statistics: dict[str, Statistic]


def columns_of(benchmark: Benchmark, rows: Rows) -> list[Columns]:
    """Return a method's statistics for each table, over the scenes of the benchmark.

    Every sample has the same weight, so "all sub-tasks" is the mean over the ten samples of a
    scene: that reproduces the paper's .966, .029 and .863 from its Tables 1 and 2, and a mean over
    the three tasks does not. A column of which a sample lacks the score is left out.

    Returns:
        Of refocus, bokeh, deblur, all sub-tasks (Tables 3 to 6), all sub-tasks by source, and
        alignment.
    """
    covered = [sample for sample in benchmark.samples if sample.key in rows]
    every = means_of(benchmark, rows, covered)
    by_task = {
        task: means_of(benchmark, rows, [sample for sample in covered if sample.task == task])
        for task in TASKS
    }
    by_task["refocus"].statistics.update(hit_rate_of(benchmark, rows))
    by_task["bokeh"].statistics.update(sweep_of(benchmark, rows))

    # Tables 3 to 6
    def prefixed(prefix: str, columns: Columns) -> dict[str, Statistic]:
        return {f"{prefix} {name}": each for name, each in columns.statistics.items()}

    ablations = prefixed("all", every) | prefixed("bokeh", by_task["bokeh"])
    ablations |= prefixed("deblur", by_task["deblur"])

    # All sub-tasks of each source
    source_of = {scene.scene: scene.source for scene in benchmark.scenes}
    by_source: dict[str, Statistic] = {}
    for source in SOURCES:
        samples = [sample for sample in covered if source_of[sample.scene] == source]
        by_source |= prefixed(source, means_of(benchmark, rows, samples))

    # Alignment, of all sub-tasks and the shift of each
    aligned = alignment_of(benchmark, rows, covered)
    for task in TASKS:
        own = [sample for sample in covered if sample.task == task]
        shift = alignment_of(benchmark, rows, own).get("shift px")
        aligned |= {f"{task} shift px": shift} if shift else {}
    return [
        *by_task.values(),
        Columns(every.samples, ablations),
        Columns(every.samples, by_source),
        Columns(every.samples, aligned),
    ]


def means_of(benchmark: Benchmark, rows: Rows, samples: Sequence[Sample]) -> Columns:
    # The mean of every score over samples, clustered by scene
    index = {scene.scene: number for number, scene in enumerate(benchmark.scenes)}
    found = {}
    for title, name in SCORES.items():
        values = [rows[sample.key][name] for sample in samples]
        if not values or None in values:
            continue
        by_scene: list[list[float]] = [[] for _ in benchmark.scenes]
        for sample, value in zip(samples, values, strict=True):
            by_scene[index[sample.scene]].append(value)
        found[title] = ratio(list(map(math.fsum, by_scene)), list(map(len, by_scene)))
    return Columns(len(samples), found)


def alignment_of(
    benchmark: Benchmark, rows: Rows, samples: Sequence[Sample]
) -> dict[str, Statistic]:
    index = {scene.scene: number for number, scene in enumerate(benchmark.scenes)}
    found: dict[str, Statistic] = {}
    counts = [0] * len(benchmark.scenes)
    for sample in samples:
        counts[index[sample.scene]] += 1
    # Means over the samples that could be measured, clustered by scene, and the share of these
    for title, name in ALIGNMENT.items():
        by_scene: list[list[float]] = [[] for _ in benchmark.scenes]
        for sample in samples:
            if (value := rows[sample.key][name]) is not None:
                by_scene[index[sample.scene]].append(value)
        measured = list(map(len, by_scene))
        if any(measured):
            found[title] = ratio(list(map(math.fsum, by_scene)), measured)
        if samples and name == "shift_px":
            found[MEASURED] = ratio(measured, counts)
    return found


def hit_rate_of(benchmark: Benchmark, rows: Rows) -> dict[str, Statistic]:
    # How often a refocus image is sharper at its own point than the scene's others are there
    found = hits_of(benchmark, rows)
    scenes = [
        [found[sample.key] for sample in samples if sample.key in found]
        for samples in by_scene(benchmark, "refocus")
    ]
    return {HIT_RATE: ratio(list(map(sum, scenes)), list(map(len, scenes)))} if found else {}


def hits_of(benchmark: Benchmark, rows: Rows) -> dict[str, bool]:
    """Return which refocus images hit, of the scenes of which all are covered, by sample."""
    hits: dict[str, bool] = {}
    for samples in by_scene(benchmark, "refocus"):
        found = scene_hits([rows[sample.key] for sample in samples if sample.key in rows])
        if len(samples) > 1 and len(found) == len(samples):
            hits |= {sample.key: hit for sample, hit in zip(samples, found, strict=True)}
    return hits


def scene_hits(rows: Sequence[dict[str, Any]]) -> list[bool]:
    """Return for each of a scene's refocus images, in order, whether its own point is sharpest.

    `dofsuite.metrics.focus_hits`; a tie is a miss.
    """
    sharpness = [row["sharpness_at"] for row in rows]
    if any(len(each) != len(rows) for each in sharpness):
        return []
    return [
        all(own[k] > other[k] for j, other in enumerate(sharpness) if j != k)
        for k, own in enumerate(sharpness)
    ]


def by_scene(benchmark: Benchmark, task: str) -> Iterator[list[Sample]]:
    """Yield each scene's samples of a task, in order."""
    groups: dict[str, list[Sample]] = {scene.scene: [] for scene in benchmark.scenes}
    for sample in benchmark.samples:
        if sample.task == task:
            groups[sample.scene].append(sample)
    yield from groups.values()


def sharpness_by_level(
    benchmark: Benchmark, rows: Rows, name: str
) -> Float[Tensor, "scenes columns"]:
    """Return each scene's sharpness at every bokeh level, and 1; 0 where a level is not covered.

    Args:
        benchmark: With the levels; real pairs have no common ones.
        rows: Scores by sample.
        name: `sharpness` or `target_sharpness`.
    """
    curves = torch.zeros(len(benchmark.scenes), len(benchmark.bokeh_levels) + 1).double()
    for number, samples in enumerate(by_scene(benchmark, "bokeh")):
        ordered = sorted(samples, key=lambda sample: sample.bokeh_level)
        values = [rows[sample.key][name] for sample in ordered if sample.key in rows]
        if len(values) == len(benchmark.bokeh_levels):
            curves[number] = torch.tensor([*values, 1.0])
    return curves


def sweep_of(benchmark: Benchmark, rows: Rows) -> dict[str, Statistic]:
    """Return LVCorr in both variants, of predictions and targets, and blur gain.

    The metrics of `dofsuite.metrics`, as functions of the summed curves.
    """
    levels = torch.tensor(sorted(benchmark.bokeh_levels), dtype=torch.float64)
    if len(levels) < 2:
        return {}
    curves = {
        of: sharpness_by_level(benchmark, rows, name)
        for of, name in (("", "sharpness"), ("truth's ", "target_sharpness"))
    }
    count = curves[""][:, -1]
    if not bool(count.any()):
        return {}

    # How the paper pools scenes is not stated: its number stands beside the first variant
    found = {}
    for of, curve in curves.items():
        scores = level_correlation(curve[:, :-1], levels)
        found[f"{of}LVCorr"] = Statistic(
            curve, lambda totals: masked(level_correlation(totals[:, :-1], levels), totals)
        )
        found[f"{of}LVCorr per scene"] = ratio((scores * count).tolist(), count.tolist())

    # Blur gain, of the lowest and the highest level
    ends = torch.cat([curve[:, [0, -2]] for curve in curves.values()] + [count[:, None]], dim=1)
    found["blur gain"] = Statistic(
        ends, lambda totals: masked(gain_of_ends(totals[:, :2], totals[:, 2:4])[0], totals)
    )
    return found


def masked(values: Tensor, totals: Tensor) -> Tensor:
    # NaN for a resample without a scene; the last total is their number
    return values.masked_fill(totals[:, -1] == 0, math.nan)


def level_correlation(
    curves: Float[Tensor, "r levels"], levels: Float[Tensor, " levels"]
) -> Float[Tensor, " r"]:
    """Return -corr(level, sharpness) of every row; 0 where the row is constant."""
    return correlation_by_row(curves, -levels.expand_as(curves))[0]


def common_keys(every: Collection[Rows]) -> set[str]:
    """Return the keys of the samples that all methods cover."""
    return set.intersection(*(set(rows) for rows in every))


def restricted(rows: Rows, keys: Collection[str]) -> Rows:
    return {key: row for key, row in rows.items() if key in keys}
