"""From scores of single samples to the tables of DiffCamera's paper, its own rows beside ours."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.evaluation.refocus import paper_tables
from dofsuite.evaluation.refocus.methods import Method
from dofsuite.evaluation.refocus.perturbation import TITLES
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.evaluation.report import Number, OfRun, Table
from dofsuite.images import quantize_8bit, read_image
from dofsuite.metrics import BlurGain, LVCorr

SAMPLES = "samples"
SCORES = {
    "CLIP-I": "clip_i",
    "MAE": "mae",
    "PSNR": "psnr",
    "LPIPS": "lpips",
    "CLIP-IQA": "clip_iqa",
}
"""Column title -> name in a row."""
LV_CORR, TRUTHS_LV_CORR, BLUR_GAIN = "LVCorr", "truth's LVCorr", "blur gain"
VARIANTS = {"level_mean": "", "level_per_scene": " per scene"}
"""Of LVCorr, with what the column's title says more. How the paper pools scenes is not stated: its number stands beside
the first."""
LV_CORRS = tuple(
    f"{title}{more}" for more in VARIANTS.values() for title in (LV_CORR, TRUTHS_LV_CORR)
)
"""Columns of the sweeps, in this order."""


class MethodResults(NamedTuple):
    """A method with the scores of every sample that it covers, and the folder of its pictures where they were kept."""

    method: Method
    rows: dict[str, dict[str, Any]]
    pictures: Path | None

    def picture(self, benchmark: Benchmark, sample: Sample) -> Tensor:
        """Return the answer to a sample, 8-bit display values [1, 3, h, w]."""
        if self.pictures is not None:
            return read_image(self.pictures / f"{sample.key}.png")[None]
        return quantize_8bit(
            self.method.answer(sample, benchmark.picture(sample.reference), torch.empty(0))
        )


Sweep = dict[str, Number]
"""What is measured on the add-bokeh pictures of whole scenes: `LV_CORRS` and `BLUR_GAIN`; empty without such."""


def tables(
    benchmark: Benchmark, answered: Sequence[MethodResults], notes: Sequence[str]
) -> list[Table]:
    """Return Tables 1 and 2, the columns of Tables 3 to 6, and a table by source.

    Args:
        benchmark: What was asked.
        answered: All methods with all their scores.
        notes: Why columns are empty.
    """
    sweeps = [sweep_of(benchmark, one) for one in answered]
    coverage = [note for one in answered if (note := coverage_note(benchmark, one))]
    remarks = list(dict.fromkeys(one.method.remark for one in answered if one.method.remark))
    flags = [note for one in answered if (note := flag(benchmark, one, answered))]
    runs = {
        one.method.name: OfRun(one.method.run, TITLES[one.method.perturbation])
        for one in answered
        if one.method.run
    }

    def table(
        title: str,
        columns: tuple[str, ...],
        paper: list[paper_tables.Row],
        of: Cells,
        own: list[str],
    ) -> Table:
        theirs = [paper_tables.row_of(row, columns) for row in paper]
        ours = [
            (one.method.name, [of(one, sweep).get(name) for name in columns])
            for one, sweep in zip(answered, sweeps, strict=True)
        ]
        concerned = [
            note for note in notes if any(note.split(":")[0] in column for column in columns)
        ]
        return Table(
            title, columns, theirs + ours, tuple([*own, *coverage, *remarks, *concerned]), runs
        )

    columns = (SAMPLES, "CLIP-I", "MAE", "CLIP-IQA")
    sweep_columns = (SAMPLES, "CLIP-I", "MAE", *LV_CORRS, BLUR_GAIN, "CLIP-IQA")
    deblur = (SAMPLES, "CLIP-I", "MAE", "LPIPS", "PSNR", "CLIP-IQA")
    by_source = (SAMPLES, *(f"{source} {name}" for name in ("MAE", "CLIP-I") for source in SOURCES))
    return [
        table(
            "Table 1: refocus",
            columns,
            paper_tables.REFOCUS,
            task_cells(benchmark, "refocus"),
            flags,
        ),
        table(
            "Table 1: add bokeh",
            sweep_columns,
            paper_tables.BOKEH,
            task_cells(benchmark, "bokeh"),
            [],
        ),
        table("Table 2: deblur", deblur, paper_tables.DEBLUR, task_cells(benchmark, "deblur"), []),
        table(
            "Tables 3 to 6: all sub-tasks and two of them",
            (SAMPLES, *paper_tables.ABLATION_COLUMNS),
            paper_tables.ABLATIONS,
            ablation_cells(benchmark),
            [],
        ),
        table("All sub-tasks by source", by_source, [], source_cells(benchmark), []),
    ]


Cells = Callable[[MethodResults, Sweep], dict[str, Number]]
"""Column title -> number, of one method."""


def task_cells(benchmark: Benchmark, task: str) -> Cells:
    """Return the columns of one task."""

    def cells(one: MethodResults, sweep: Sweep) -> dict[str, Number]:
        scores = scores_of(one, [sample for sample in benchmark.samples if sample.task == task])
        return scores | sweep

    return cells


def ablation_cells(benchmark: Benchmark) -> Cells:
    """Return the columns of Tables 3 to 6."""

    def cells(one: MethodResults, sweep: Sweep) -> dict[str, Number]:
        every = scores_of(one, benchmark.samples)
        deblur = scores_of(one, [sample for sample in benchmark.samples if sample.task == "deblur"])
        return {
            SAMPLES: every[SAMPLES],
            **{f"all {name}": every[name] for name in ("CLIP-I", "MAE", "CLIP-IQA")},
            "bokeh LVCorr": sweep.get(LV_CORR),
            **{f"deblur {name}": deblur[name] for name in ("MAE", "LPIPS", "PSNR")},
        }

    return cells


def source_cells(benchmark: Benchmark) -> Cells:
    """Return MAE and CLIP-I of all sub-tasks for each source."""
    source_of = {scene.scene: scene.source for scene in benchmark.scenes}

    def cells(one: MethodResults, sweep: Sweep) -> dict[str, Number]:
        found: dict[str, Number] = {SAMPLES: len(one.rows)}
        for source in SOURCES:
            scores = scores_of(
                one, [sample for sample in benchmark.samples if source_of[sample.scene] == source]
            )
            found |= {f"{source} {name}": scores[name] for name in ("MAE", "CLIP-I")}
        return found

    return cells


def scores_of(one: MethodResults, samples: Sequence[Sample]) -> dict[str, Number]:
    """Return the number of samples covered and the mean of every score over them, None where there is none.

    Every sample counts alike, so "all sub-tasks" is the mean over the ten samples of a scene: that
    reproduces the paper's .966, .029 and .863 from its Tables 1 and 2, and a mean over the three
    tasks does not.
    """
    rows = [one.rows[sample.key] for sample in samples if sample.key in one.rows]
    means = {title: mean([row[name] for row in rows]) for title, name in SCORES.items()}
    return {SAMPLES: len(rows), **means}


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean, summed without rounding errors of its own; None where a value is missing or there is none."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there and len(there) == len(values) else None


def sweep_of(benchmark: Benchmark, one: MethodResults) -> Sweep:
    """Return LVCorr and blur gain over the scenes of which a method covers every level, and the truth's own LVCorr."""
    levels = benchmark.bokeh_levels
    pairs, gain = (
        [(LVCorr(levels, variant), LVCorr(levels, variant)) for variant in VARIANTS],
        BlurGain(levels),
    )
    by_scene: dict[str, list[Sample]] = {}
    for sample in benchmark.samples:
        if sample.task == "bokeh" and sample.key in one.rows:
            by_scene.setdefault(sample.scene, []).append(sample)
    whole = [
        sorted(group, key=lambda s: s.bokeh_level)
        for group in by_scene.values()
        if len(group) == len(levels)
    ]
    if not whole:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # of a method, such as copy, that does not change with the level
        for group in whole:
            preds = torch.stack([one.picture(benchmark, sample) for sample in group], dim=1)
            truth = torch.stack([benchmark.picture(sample.target) for sample in group], dim=1)
            for of_preds, of_truth in pairs:
                of_preds.update(preds)
                of_truth.update(truth)
            gain.update(preds, truth)
        values = [float(metric.compute()) for pair in pairs for metric in pair]
        return {**dict(zip(LV_CORRS, values, strict=True)), BLUR_GAIN: float(gain.compute())}


def coverage_note(benchmark: Benchmark, one: MethodResults) -> str:
    """Say how much of the benchmark a method covers, where that is not all."""
    covered, every = len(one.rows), len(benchmark.samples)
    if covered == every:
        return ""
    return f"{one.method.name}: covers {covered} of {every} samples ({100 * covered / every:.1f} %)"


def flag(benchmark: Benchmark, one: MethodResults, answered: Sequence[MethodResults]) -> str:
    """Say where a method is farther from the truth than the reference unchanged, on the refocus samples it covers."""
    copy = next(other for other in answered if other.method.identity == {"kind": "copy"})
    samples = [
        sample
        for sample in benchmark.samples
        if sample.task == "refocus" and sample.key in one.rows
    ]
    mae, of_copy = (scores_of(other, samples)["MAE"] for other in (one, copy))
    if mae is None or of_copy is None or mae <= of_copy:
        return ""
    return f"FLAG: {one.method.name}: its refocus MAE {mae:.3f} is above copy's {of_copy:.3f}: refocusing did harm"
