"""The report of the text-to-image table: numbers, energies by aperture, sheets, and options."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchmetrics

from dofsuite.backbones.descriptors import describe
from dofsuite.backbones.model_card import licence_of_base
from dofsuite.data import ShardReader
from dofsuite.data.dataset import BatchLoader, HeldOutSamples, collate_or_error
from dofsuite.evaluation.plots import Curve, curve_plot
from dofsuite.evaluation.report import ImageSheet, write_report
from dofsuite.evaluation.tables import Block, Cell, Table, interval_of, number_of
from dofsuite.evaluation.text2image.config import Text2ImageConfig
from dofsuite.evaluation.text2image.features import ReferenceFeatures
from dofsuite.evaluation.text2image.images import image_folder, read_images
from dofsuite.evaluation.text2image.methods import Method
from dofsuite.evaluation.text2image.prompts import Prompt
from dofsuite.evaluation.text2image.scores import (
    COLUMNS,
    PUBLISHED,
    Scorer,
    differences_of,
    relative_energy,
    scores_of,
    statistics_of,
)
from dofsuite.images import thumbnail
from dofsuite.metrics.consistency import chance_consistency

# Images on the sheets are at most as wide.
SHEET_PX = 192
NOTES = (
    "BM: Blur Monotonicity, share of neighbouring apertures at which the energy rises; ties fail; "
    "chance is 0.5. ac is the energy around the mean, paper the sum of squares, which moves with "
    "brightness too.",
    "CC: Content Consistency over all pairs of apertures. CLIP-I: cosine to the image at the last "
    "aperture.",
    "All numbers are of the 8-bit images beside this report; a dash is what was not measured.",
    "Intervals: 95 %, bootstrap over prompts, expanded percentile, none below 5 prompts; "
    "differences are paired by prompt and bold where the interval excludes 0. For KID and FID the "
    "photographs are taken as they are (`--interval` draws them too); FID has an interval of "
    "differences alone, as resamples of fewer different images raise it.",
)
PAPER_TITLE = (
    "The paper's own numbers, over 100 there: of its full-size models, its prompts, and an energy "
    "whose mode it does not state"
)
BETTER = {"BM ac": 1, "BM paper": 1, "CC": 1, "CLIP-I": 1, "KID": -1, "FID": -1}


class Row(NamedTuple):
    stem: str
    method: Method
    # The method as plain values, without its name.
    described: dict[str, Any]
    # What its images depend on beside the prompt, as plain data.
    cache_key: dict[str, Any]


# The methods with their rows, one a prompt.
MethodResults = list[tuple[Row, list[dict[str, Any]]]]


def write(
    config: Text2ImageConfig,
    prompts: Sequence[Prompt],
    results: MethodResults,
    reader: ShardReader | None,
    load_scorer: Callable[[], Scorer],
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write the report and return its files.

    Args:
        config: Of the command.
        prompts: All of them.
        results: The table's rows.
        reader: Photographs that the images are compared with; None for none.
        load_scorer: Gives the feature network.
        notes: Why columns are empty.

    Raises:
        UserError: A photograph cannot be read, or the folder not be written.
    """
    # Numbers
    real = None if reader is None else reference_features(config, results, reader, load_scorer)
    scores = [(row.method.name, scores_of(rows, real, config.seed)) for row, rows in results]
    energies = [(row.method.name, relative_energy(rows, config.seed)) for row, rows in results]
    apertures = tuple(f"f/{number:g}" for number in config.f_numbers)
    title = "Energy around the mean, over that of the last aperture (mean over prompts)"
    tables = [
        Table(
            "Every prompt at every aperture",
            COLUMNS,
            scores,
            (*NOTES, *licence_notes(row for row, _ in results), *notes),
            best=BETTER,
            blocks=blocks_of(results, real, config.seed),
        ),
        Table(title, apertures, energies),
    ]
    curves = [
        Curve(name, [number_of(cell) for cell in cells], [interval_of(cell) for cell in cells])
        for name, cells in energies
    ]
    plot = curve_plot(f"{title}, 95 % bands", "aperture", apertures, curves)

    # Images
    sheets = [sheet(config, prompt, results) for prompt in prompts[: config.sheets]]
    facts = facts_of(config, prompts, results, real)
    return write_report(config.output, "Text to image", tables, sheets, facts, [plot])


def licence_notes(rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each method: the licence of the base that its images come from."""
    notes = []
    for row in rows:
        # Of an exported run, or of a base that the method names
        exported = row.cache_key["sources"].get("export", {}).get("backbone")
        named = getattr(row.method.generator, "backbone", None)
        described = exported or (None if named is None else describe(named))
        if described is not None:
            notes.append(f"{row.method.name}: base {licence_of_base(described)}")
    return notes


def blocks_of(
    results: MethodResults, real: ReferenceFeatures | None, seed: int
) -> tuple[Block, ...]:
    # Differences to the first method, and what the paper published of the rows
    (first, of_first), others = results[0], results[1:]
    base = statistics_of(of_first, real)
    lines = [
        (row.method.name, differences_of(statistics_of(rows, real), base, seed))
        for row, rows in others
    ]
    title = f"Difference to {first.method.name}, paired by prompt"
    paper: list[tuple[str, list[Cell]]] = []
    for row, _ in results:
        if (published := row.method.published.get(PUBLISHED)) is not None:
            cells: list[Cell] = [None] * len(COLUMNS)
            cells[COLUMNS.index("BM paper")] = published
            paper.append((row.method.name, cells))
    blocks = Block(title, lines, is_difference=True), Block(PAPER_TITLE, paper)
    return tuple(block for block in blocks if block.rows)


def reference_features(
    config: Text2ImageConfig,
    results: MethodResults,
    reader: ShardReader,
    load_scorer: Callable[[], Scorer],
) -> ReferenceFeatures | None:
    rows, scorer = results[0][1], load_scorer()
    if scorer.extract is None:
        return None
    # Center crops [b, 3, h, w] in [0, 1] at the size of the methods' images
    samples = HeldOutSamples(reader, rows[0]["size_px"])
    batches = BatchLoader(samples, batch_size=64, collate_fn=collate_or_error)
    raw = torch.cat([scorer.extract(each.image_srgb.to(scorer.device)).cpu() for each in batches])
    num_images = len(rows) * len(config.compared_f_numbers)
    return ReferenceFeatures.from_raw(raw, config.feature_network, num_images)


def sheet(config: Text2ImageConfig, prompt: Prompt, results: MethodResults) -> ImageSheet:
    lines = []
    for row, _ in results:
        folder = image_folder(config.output, row.stem, prompt.row)
        images = [thumbnail(each, SHEET_PX) for each in read_images(folder, config.f_numbers)]
        lines.append((row.method.name, images))
    return ImageSheet(prompt.text, [f"f/{number:g}" for number in config.f_numbers], lines)


def facts_of(
    config: Text2ImageConfig,
    prompts: Sequence[Prompt],
    results: MethodResults,
    real: ReferenceFeatures | None,
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "prompts": f"{len(prompts)} of {config.prompts}",
        "f-numbers": config.f_numbers,
        "focal lengths, mm": sorted({prompt.focal_length_mm for prompt in prompts}),
        "seed": config.seed,
        "blur monotonicity": "neighbouring apertures, RGB in [0, 1], 8 bit",
        "content consistency": consistency_fact(config, results),
        "CLIP-I": config.clip,
    }
    if real is not None:
        facts |= real.facts(config.feature_network, str(config.photographs))
        facts["compared at"] = config.compared_f_numbers
    facts["versions"] = {"torch": torch.__version__, "torchmetrics": torchmetrics.__version__}
    return facts | {f"method {row.stem}": row.described for row, _ in results}


def consistency_fact(config: Text2ImageConfig, results: MethodResults) -> str:
    consistency, top_k = results[0][1][0]["consistency"], config.classes_per_pixel
    if consistency is None:
        return "not measured"
    classes = consistency["num_classes"]
    chance = "" if classes is None else f"; chance is {chance_consistency(classes, top_k):.3f}"
    return f"{config.segmenter}, top {top_k} of {classes or 'unknown'} classes, all pairs{chance}"
