"""The report: DiffCamera's tables with intervals, differences, flags, and the paper's own numbers.

Everything is computed from the scores of single samples, which `samples.csv` has too.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.evaluation.refocus import paper_tables
from dofsuite.evaluation.refocus.estimates import (
    ALIGNMENT,
    HIT_RATE,
    MEASURED,
    SCORES,
    TASKS,
    Columns,
    Rows,
    columns_of,
    common_keys,
    hits_of,
    restricted,
)
from dofsuite.evaluation.refocus.methods import Method
from dofsuite.evaluation.refocus.perturbation import TITLES
from dofsuite.evaluation.refocus_benchmark.config import SOURCES
from dofsuite.evaluation.refocus_benchmark.format import Benchmark, Sample
from dofsuite.evaluation.statistics import MIN_CLUSTERS, Estimate, difference, estimate
from dofsuite.evaluation.tables import Block, Cell, RunVariant, Table
from dofsuite.images import quantize_8bit, read_image

SAMPLES = "samples"
# Fewer scenes have intervals that are rough.
FEW_SCENES = 10
ALIGNMENT_TITLE = "Alignment with the picture given: nothing should move or change its color"
ALIGNMENT_NOTE = (
    "alignment: means over the samples in which something is sharp in both pictures, whose share "
    "is in the last column; the oracle's are what refocusing and the measurement leave"
)
# Title, columns after the number of samples, and the paper's rows; `columns_of` has this order.
TABLES: list[tuple[str, tuple[str, ...], list[paper_tables.Row]]] = [
    (
        "Table 1: refocus",
        ("CLIP-I", "EfficientNet", "MAE", "ST-LPIPS", "DISTS", HIT_RATE, "CLIP-IQA"),
        paper_tables.REFOCUS,
    ),
    (
        "Table 1: add bokeh",
        (
            "CLIP-I",
            "EfficientNet",
            "MAE",
            "ST-LPIPS",
            "DISTS",
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
        ("CLIP-I", "EfficientNet", "MAE", "LPIPS", "ST-LPIPS", "DISTS", "PSNR", "CLIP-IQA"),
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
    (
        ALIGNMENT_TITLE,
        (*ALIGNMENT, *(f"{task} shift px" for task in TASKS), MEASURED),
        [],
    ),
]
# Last word of a column -> whether more is better. CLIP-I is against the picture given (its copy has
# 1), and of blur gain 1 is right.
BETTER = {"MAE": -1, "LPIPS": -1, "PSNR": 1, "CLIP-IQA": 1, "LVCorr": 1, "rate": 1}
BETTER |= {"ST-LPIPS": -1, "DISTS": -1, "px": -1, "error": -1, "drift": -1, "aligned": 1}
PAPER_TITLE = (
    "The paper's own numbers: of its 150 scenes, its levels, depth and renderer, which are not "
    "public; their truth has CLIP-I .970 and LVCorr .93"
)
# Rows that are no competitors: they have the truth's depth and renderer.
USING_TRUTH = frozenset({"oracle", "renderer_without_deblurring"})
# What a method does in a task.
DOING = {"refocus": "refocusing", "bokeh": "adding bokeh", "deblur": "deblurring"}


# Of every method, in every table, the differences to another one.
Differences = dict[str, list[list[Cell]]]


# A method with the scores of every sample that it covers, and where its images are kept.
class MethodResults(NamedTuple):
    method: Method
    rows: Rows
    images: Path | None

    def prediction(self, benchmark: Benchmark, sample: Sample) -> Tensor:
        """Return the prediction of a sample, 8-bit display values [1, 3, h, w]."""
        if self.images is not None:
            return read_image(self.images / f"{sample.key}.png")[None]
        reference = benchmark.image(sample.reference)
        return quantize_8bit(self.method.predict(sample, reference, torch.empty(0)))


def judged(results: Sequence[MethodResults]) -> MethodResults:
    """Return the method that the report is about: the first run, else the first that is given."""
    given = [each for each in results if not each.method.is_baseline]
    runs = [each for each in given if each.method.run]
    return (runs or given or [each for each in results if each.method.name == "copy"])[0]


def tables(
    benchmark: Benchmark, results: Sequence[MethodResults], notes: Sequence[str], seed: int = 0
) -> list[Table]:
    """Return Tables 1 and 2, the columns of Tables 3 to 6, and a table by source.

    Args:
        benchmark: What was predicted.
        results: All methods with all their scores.
        notes: Why columns are empty.
        seed: Of the bootstrap.
    """
    # Numbers of all methods, and what a reader should know of them
    columns = {each.method.name: columns_of(benchmark, each.rows) for each in results}
    compared = {
        name: differences(benchmark, results, name, seed)
        for name in dict.fromkeys(("copy", "uniform_blur", judged(results).method.name))
    }
    blocks = blocks_of(benchmark, results, compared, seed)
    flags = flags_of(results, compared)
    remarks = [coverage_note(benchmark, each) for each in results]
    remarks += dict.fromkeys(each.method.remark for each in results)
    remarks.append(interval_note(benchmark))
    runs = {
        each.method.name: RunVariant(each.method.run, TITLES[each.method.perturbation])
        for each in results
        if each.method.run
    }

    # Each table: ours, then differences and the paper's rows
    found = []
    for index, (title, names, paper) in enumerate(TABLES):
        heads = (SAMPLES, *names)
        rows = [(name, cells_of(own[index], names, seed)) for name, own in columns.items()]
        own_blocks = [block for block in blocks[index] if block.rows]
        if paper:
            lines = [(name, [values.get(column) for column in heads]) for name, values in paper]
            own_blocks.append(Block(PAPER_TITLE, lines, decimals=3))
        empty = [
            note for note in notes if any(note.split(":")[0] == name.split()[-1] for name in names)
        ]
        empty += [ALIGNMENT_NOTE] if title == ALIGNMENT_TITLE else []
        own_flags = flags[TASKS[index]] if index < len(TASKS) else []
        better = {name: BETTER[last] for name in names if (last := name.split()[-1]) in BETTER}
        better = {name: sign for name, sign in better.items() if "truth's" not in name}
        found.append(
            Table(
                title,
                heads,
                rows,
                tuple(filter(None, [*own_flags, *(remarks if index == 0 else []), *empty])),
                runs,
                better,
                USING_TRUTH,
                tuple(own_blocks),
            )
        )
    return found


def cells_of(columns: Columns, names: Sequence[str], seed: int) -> list[Cell]:
    cells: list[Cell] = [columns.samples]
    for name in names:
        statistic = columns.statistics.get(name)
        cells.append(None if statistic is None else estimate(statistic, seed))
    return cells


def blocks_of(
    benchmark: Benchmark,
    results: Sequence[MethodResults],
    compared: dict[str, Differences],
    seed: int,
) -> list[list[Block]]:
    # For every table: on common samples, then differences to copy, uniform blur and the first run
    # Means on common samples
    blocks: list[list[Block]] = [[] for _ in TABLES]
    common = common_keys([each.rows for each in results])
    if any(len(each.rows) > len(common) for each in results):
        columns = {
            each.method.name: columns_of(benchmark, restricted(each.rows, common))
            for each in results
        }
        for index, (_, names, _) in enumerate(TABLES):
            rows = [(name, cells_of(own[index], names, seed)) for name, own in columns.items()]
            count = next(iter(columns.values()))[index].samples
            title = f"On common samples: the {count} that every method covers"
            blocks[index].append(Block(title, rows if count else []))

    # Differences
    for name, lines in compared.items():
        title = f"Difference to {name} on the samples of both, paired by scene"
        for index in range(len(TABLES)):
            rows = [(other, own[index]) for other, own in lines.items()]
            blocks[index].append(Block(title, rows, is_difference=True))
    return blocks


def differences(
    benchmark: Benchmark, results: Sequence[MethodResults], base: str, seed: int
) -> Differences:
    """Return every method but the oracle minus the one of that name, on the samples of both."""
    second = next(each for each in results if each.method.name == base)
    lines: Differences = {}
    for first in results:
        if first.method.name in ("oracle", base):
            continue
        common = common_keys([first.rows, second.rows])
        pair = [columns_of(benchmark, restricted(each.rows, common)) for each in (first, second)]
        own_lines = lines.setdefault(first.method.name, [])
        for (_, names, _), own, other in zip(TABLES, *pair, strict=True):
            # The truth's own numbers do not differ
            line: list[Cell] = [own.samples]
            for name in names:
                both = own.statistics.get(name), other.statistics.get(name)
                if both[0] is None or both[1] is None or name.startswith("truth's"):
                    line.append(None)
                else:
                    line.append(difference(both[0], both[1], seed))
            own_lines.append(line)
    return lines


def flags_of(
    results: Sequence[MethodResults], compared: dict[str, Differences]
) -> dict[str, list[str]]:
    """Return, for each task, which methods are significantly further from the truth than a floor.

    The floors are the unchanged reference and, where a level is asked for, the uniform blur;
    significant is what the paired interval of MAE says.
    """
    flags: dict[str, list[str]] = {task: [] for task in TASKS}
    meanings = {"copy": "did harm", "uniform_blur": "is worse than ignoring the point"}
    # Every method against both floors, in every task
    for each in results:
        for floor, meaning in meanings.items():
            if each.method.is_baseline:
                continue
            lines = compared[floor][each.method.name]
            for task, (_, names, _), line in zip(TASKS, TABLES, lines, strict=False):
                cell = line[1 + names.index("MAE")]
                if not isinstance(cell, Estimate) or cell.interval is None or cell.sign <= 0:
                    continue
                if floor == "copy" or task != "deblur":
                    low, high = cell.interval
                    flags[task].append(
                        f"FLAG: {each.method.name}: its {task} MAE is above {floor}'s by "
                        f"{cell.value:.4f} [{low:.4f}, {high:.4f}]: {DOING[task]} {meaning}"
                    )
    return flags


def interval_note(benchmark: Benchmark) -> str:
    scenes = len(benchmark.scenes)
    if scenes < MIN_CLUSTERS:
        return f"intervals: none, because they are over scenes and there are only {scenes}"
    rough = "; with so few scenes they are rough" if scenes < FEW_SCENES else ""
    return (
        f"intervals: 95 %, bootstrap over {scenes} scenes, expanded percentile; differences are "
        f"paired by scene and bold where the interval excludes 0; where all scenes agree it has no "
        f"width{rough}"
    )


def coverage_note(benchmark: Benchmark, results: MethodResults) -> str:
    covered, every = len(results.rows), len(benchmark.samples)
    if covered == every:
        return ""
    share = 100 * covered / every
    return f"{results.method.name}: covers {covered} of {every} samples ({share:.1f} %)"


def samples_csv(benchmark: Benchmark, results: Sequence[MethodResults]) -> str:
    """Return the scores of every sample by every method, as CSV."""
    # Columns
    source_of = {scene.scene: scene.source for scene in benchmark.scenes}
    names = [*SCORES.values(), *ALIGNMENT.values(), "sharpness", "target_sharpness"]
    heads = ["method", "key", "scene", "source", "task", "bokeh_level", *names, "focus_hit"]
    file = io.StringIO()
    writer = csv.DictWriter(file, heads, lineterminator="\n")
    writer.writeheader()
    # A line a sample and method
    for each in results:
        hits = hits_of(benchmark, each.rows)
        for sample in benchmark.samples:
            if (row := each.rows.get(sample.key)) is None:
                continue
            line: dict[str, Any] = {"method": each.method.name, "key": sample.key}
            line |= {"scene": sample.scene, "source": source_of[sample.scene]}
            line |= {"task": sample.task, "bokeh_level": f"{sample.bokeh_level:g}"}
            line |= {name: row[name] for name in names}
            hit = hits.get(sample.key)
            writer.writerow(line | {"focus_hit": None if hit is None else int(hit)})
    return file.getvalue()
