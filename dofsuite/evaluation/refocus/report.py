"""The report: the tables of DiffCamera's paper beside its own rows, and sheets of images.

Tables are computed from the scores of single samples; a sheet shows reference, target, and the
prediction of every method.
"""

import math
import warnings
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dofsuite.evaluation.refocus import paper_tables
from dofsuite.evaluation.refocus.methods import Method
from dofsuite.evaluation.refocus.perturbation import TITLES
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.evaluation.report import ImageSheet, Number, RunVariant, Table
from dofsuite.images import draw_marker, quantize_8bit, read_image, thumbnail
from dofsuite.metrics import BlurGain, LVCorr

# Larger images are reduced to this on a sheet, so that the report stays a file that one can send.
MAX_PX = 192
SAMPLES = "samples"
# Column -> key in a row.
SCORES = {
    "CLIP-I": "clip_i",
    "MAE": "mae",
    "PSNR": "psnr",
    "LPIPS": "lpips",
    "CLIP-IQA": "clip_iqa",
}
# Variants of LVCorr with the suffixes of their columns.
#
# How the paper pools scenes is not stated: its number stands beside the first.
VARIANTS: dict[Literal["level_mean", "level_per_scene"], str] = {
    "level_mean": "",
    "level_per_scene": " per scene",
}
# Title, columns after the number of samples, and the paper's rows; `cells_of` has this order.
TABLES: list[tuple[str, tuple[str, ...], list[paper_tables.Row]]] = [
    ("Table 1: refocus", ("CLIP-I", "MAE", "CLIP-IQA"), paper_tables.REFOCUS),
    (
        "Table 1: add bokeh",
        (
            "CLIP-I",
            "MAE",
            "LVCorr",
            "truth's LVCorr",
            "LVCorr per scene",
            "truth's LVCorr per scene",
            "blur gain",
            "CLIP-IQA",
        ),
        paper_tables.BOKEH,
    ),
    (
        "Table 2: deblur",
        ("CLIP-I", "MAE", "LPIPS", "PSNR", "CLIP-IQA"),
        paper_tables.DEBLUR,
    ),
    (
        "Tables 3 to 6: all sub-tasks and two of them",
        paper_tables.ABLATION_COLUMNS,
        paper_tables.ABLATIONS,
    ),
    (
        "All sub-tasks by source",
        tuple(f"{source} {name}" for name in ("MAE", "CLIP-I") for source in SOURCES),
        [],
    ),
]

# Column -> number, of one method.
Cells = dict[str, Number]


# A method with the scores of every sample that it covers, and where its images are kept.
class MethodResults(NamedTuple):
    method: Method
    rows: dict[str, dict[str, Any]]
    images: Path | None

    def prediction(self, benchmark: Benchmark, sample: Sample) -> Tensor:
        """Return the prediction of a sample, 8-bit display values [1, 3, h, w]."""
        if self.images is not None:
            return read_image(self.images / f"{sample.key}.png")[None]
        reference = benchmark.image(sample.reference)
        return quantize_8bit(self.method.predict(sample, reference, torch.empty(0)))


def tables(
    benchmark: Benchmark, results: Sequence[MethodResults], notes: Sequence[str]
) -> list[Table]:
    """Return Tables 1 and 2, the columns of Tables 3 to 6, and a table by source.

    Args:
        benchmark: What was predicted.
        results: All methods with all their scores.
        notes: Why columns are empty.
    """
    # Numbers of all methods, and what a reader should know of them
    cells = {each.method.name: cells_of(benchmark, each) for each in results}
    remarks = [coverage_note(benchmark, each) for each in results]
    remarks += dict.fromkeys(each.method.remark for each in results)
    flags = [copy_flag(benchmark, each, results) for each in results]
    runs = {
        each.method.name: RunVariant(each.method.run, TITLES[each.method.perturbation])
        for each in results
        if each.method.run
    }

    # Each table: the paper's rows, then ours
    found = []
    for index, (title, names, paper) in enumerate(TABLES):
        columns = (SAMPLES, *names)
        numbers = [*paper, *((name, own[index]) for name, own in cells.items())]
        rows = [(name, [values.get(column) for column in columns]) for name, values in numbers]
        empty = [note for note in notes if any(note.split(":")[0] in name for name in names)]
        all_notes = [*(flags if index == 0 else []), *remarks, *empty]
        found.append(Table(title, columns, rows, tuple(filter(None, all_notes)), runs))
    return found


def cells_of(benchmark: Benchmark, results: MethodResults) -> list[Cells]:
    samples = benchmark.samples
    every = scores_of(results, samples)
    by_task = {
        task: scores_of(results, [sample for sample in samples if sample.task == task])
        for task in ("refocus", "bokeh", "deblur")
    }
    sweep = sweep_of(benchmark, results)

    # Tables 3 to 6
    ablations: Cells = {SAMPLES: every[SAMPLES], "bokeh LVCorr": sweep.get("LVCorr")}
    ablations |= {f"all {name}": every[name] for name in ("CLIP-I", "MAE", "CLIP-IQA")}
    ablations |= {f"deblur {name}": by_task["deblur"][name] for name in ("MAE", "LPIPS", "PSNR")}

    # All sub-tasks of each source
    by_source: Cells = {SAMPLES: every[SAMPLES]}
    for source in SOURCES:
        scenes = {scene.scene for scene in benchmark.scenes if scene.source == source}
        scores = scores_of(results, [sample for sample in samples if sample.scene in scenes])
        by_source |= {f"{source} {name}": scores[name] for name in ("MAE", "CLIP-I")}
    by_task["bokeh"] |= sweep
    return [*by_task.values(), ablations, by_source]


def scores_of(results: MethodResults, samples: Sequence[Sample]) -> Cells:
    """Return the number of samples covered and the mean of every score over them.

    Every sample has the same weight, so "all sub-tasks" is the mean over the ten samples of a
    scene: that reproduces the paper's .966, .029 and .863 from its Tables 1 and 2, and a mean over
    the three tasks does not.
    """
    rows = [results.rows[sample.key] for sample in samples if sample.key in results.rows]
    means = {title: mean([row[name] for row in rows]) for title, name in SCORES.items()}
    return {SAMPLES: len(rows), **means}


def mean(values: Sequence[float | None]) -> float | None:
    # Exactly summed; None where a value is missing or there is none
    numbers = [value for value in values if value is not None]
    return math.fsum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def sweep_of(benchmark: Benchmark, results: MethodResults) -> Cells:
    # The scenes of which the method covers every bokeh level; real pairs have no common ones
    levels = benchmark.bokeh_levels
    if not levels:
        return {}
    covered = [
        sample
        for sample in benchmark.samples
        if sample.task == "bokeh" and sample.key in results.rows
    ]
    by_scene = [
        [sample for sample in covered if sample.scene == files.scene] for files in benchmark.scenes
    ]
    complete = [samples for samples in by_scene if len(samples) == len(levels)]
    if not complete:
        return {}

    # LVCorr of predictions and of targets in both variants, and blur gain. LVCorr warns of a
    # method that ignores the level, such as copy.
    lv_corrs = {
        f"{of}LVCorr{suffix}": LVCorr(levels, name)
        for of in ("", "truth's ")
        for name, suffix in VARIANTS.items()
    }
    gain = BlurGain(levels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for scene in complete:
            samples = sorted(scene, key=lambda sample: sample.bokeh_level)
            # [1, levels, 3, h, w]
            preds = torch.stack([results.prediction(benchmark, each) for each in samples], dim=1)
            target = torch.stack([benchmark.image(each.target) for each in samples], dim=1)
            gain.update(preds, target)
            for title, lv_corr in lv_corrs.items():
                lv_corr.update(target if title.startswith("truth's") else preds)
        cells: Cells = {title: float(lv_corr.compute()) for title, lv_corr in lv_corrs.items()}
        return cells | {"blur gain": float(gain.compute())}


def coverage_note(benchmark: Benchmark, results: MethodResults) -> str:
    covered, every = len(results.rows), len(benchmark.samples)
    if covered == every:
        return ""
    share = 100 * covered / every
    return f"{results.method.name}: covers {covered} of {every} samples ({share:.1f} %)"


def copy_flag(benchmark: Benchmark, results: MethodResults, others: Sequence[MethodResults]) -> str:
    # Where a method is farther from the target than the unchanged reference is, on the refocus
    # samples that it covers
    copy = next(other for other in others if other.method.identity == {"kind": "copy"})
    samples = [
        sample
        for sample in benchmark.samples
        if sample.task == "refocus" and sample.key in results.rows
    ]
    mae, copy_mae = scores_of(results, samples)["MAE"], scores_of(copy, samples)["MAE"]
    if mae is None or copy_mae is None or mae <= copy_mae:
        return ""
    return (
        f"FLAG: {results.method.name}: its refocus MAE {mae:.3f} is above copy's {copy_mae:.3f}: "
        "refocusing did harm"
    )


def sheets(
    benchmark: Benchmark, results: Sequence[MethodResults], num_scenes: int
) -> list[ImageSheet]:
    # One for each of some scenes, taken from the sources in turn
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
