"""The report of the text-to-image table: numbers, energies by aperture, sheets, and the options they depend on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchmetrics

from dofsuite.data import ShardReader
from dofsuite.evaluation.report import ImageSheet, Table, write_report
from dofsuite.evaluation.text2image.features import ReferenceFeatures
from dofsuite.evaluation.text2image.images import image_folder, read_image_at
from dofsuite.evaluation.text2image.methods import Method
from dofsuite.evaluation.text2image.prompts import Prompt, photographs
from dofsuite.evaluation.text2image.scores import COLUMNS, Scorer, relative_energy, scores_of
from dofsuite.images import thumbnail
from dofsuite.metrics.consistency import chance_consistency

SHEET_PX = 192
"""Pictures on the sheets are made no wider."""
NOTES = (
    "BM: Blur Monotonicity, share of neighbouring apertures at which the energy rises; ties fail; chance is 0.5. "
    "ac is the energy around the mean, paper the sum of squares, which moves with brightness too.",
    "published BM: what the paper reports for the row, in its own mode, over 100.",
    "CC: Content Consistency over all pairs of apertures. CLIP-I: cosine to the picture at the last aperture.",
    "All numbers are of the 8-bit pictures beside this report; a dash is what was not measured.",
)


class Row(NamedTuple):
    """A method with its place in the table."""

    stem: str
    method: Method
    cache_key: dict[str, Any]
    """What its pictures depend on beside the prompt, as plain data."""


MethodResults = list[tuple[Row, list[dict[str, Any]]]]
"""The methods with what was made for them, one dictionary a prompt."""


def write(
    arguments: argparse.Namespace,
    prompts: Sequence[Prompt],
    made: MethodResults,
    reader: ShardReader | None,
    load_scorer: Callable[[], Scorer],
) -> list[Path]:
    """Write `report.md`, `report.json` and `report.html`, and return their paths.

    Args:
        arguments: Of the command.
        prompts: All of them.
        made: The table's rows.
        reader: Photographs that the pictures are compared with; None for none.
        load_scorer: Gives the feature network.

    Raises:
        UserError: A photograph cannot be read, or the folder not be written.
    """
    real = None if reader is None else seen_photographs(arguments, made, reader, load_scorer)
    scores = [
        (row.method.name, scores_of(rows, row.method.published, real, arguments.seed))
        for row, rows in made
    ]
    energies = [(row.method.name, relative_energy(rows)) for row, rows in made]
    columns = tuple(f"f/{number:g}" for number in arguments.f_numbers)
    tables = [
        Table("Every prompt at every aperture", COLUMNS, scores, NOTES),
        Table(
            "Energy around the mean, over that of the last aperture (mean over prompts)",
            columns,
            energies,
        ),
    ]
    sheets = [sheet(arguments, prompt, made) for prompt in prompts[: arguments.sheets]]
    return write_report(
        arguments.output, "Text to image", tables, sheets, facts(arguments, prompts, made, real)
    )


def seen_photographs(
    arguments: argparse.Namespace,
    made: MethodResults,
    reader: ShardReader,
    load_scorer: Callable[[], Scorer],
) -> ReferenceFeatures | None:
    """Look at the photographs, at the size of the first method's pictures; None without a feature network."""
    if arguments.features == "none":
        return None
    rows, scorer = made[0][1], load_scorer()
    raw = [
        scorer.look(batch.to(scorer.device)).cpu()
        for batch in photographs(reader, rows[0]["size_px"])
    ]
    return ReferenceFeatures.seen(
        torch.cat(raw), arguments.features, len(rows) * len(arguments.compared)
    )


def sheet(arguments: argparse.Namespace, prompt: Prompt, made: MethodResults) -> ImageSheet:
    """Return one prompt's pictures, a method a row, an aperture a column."""
    lines = []
    for row, _ in made:
        folder = image_folder(arguments.output, row.stem, prompt.row)
        lines.append(
            (
                row.method.name,
                [
                    thumbnail(read_image_at(folder, number), SHEET_PX)
                    for number in arguments.f_numbers
                ],
            )
        )
    return ImageSheet(prompt.text, [f"f/{number:g}" for number in arguments.f_numbers], lines)


def facts(
    arguments: argparse.Namespace,
    prompts: Sequence[Prompt],
    made: MethodResults,
    real: ReferenceFeatures | None,
) -> dict[str, Any]:
    """Return the options that the numbers depend on."""
    return {
        "prompts": f"{len(prompts)} of {arguments.prompts}",
        "f-numbers": arguments.f_numbers,
        "focal lengths, mm": sorted({prompt.focal_length_mm for prompt in prompts}),
        "seed": arguments.seed,
        "blur monotonicity": "neighbouring apertures, RGB in [0, 1], 8 bit",
        "content consistency": consistency_facts(arguments, made),
        "CLIP-I": arguments.clip,
        **({} if real is None else real.facts(arguments.features, arguments.photographs)),
        **({} if real is None else {"compared at": arguments.compared}),
        "versions": {"torch": torch.__version__, "torchmetrics": torchmetrics.__version__},
        **{f"method {row.stem}": row.cache_key["method"] for row, _ in made},
    }


def consistency_facts(arguments: argparse.Namespace, made: MethodResults) -> str:
    """Say which segmenter it was, and what chance gives."""
    seen = made[0][1][0]["consistency"]
    if seen is None:
        return "not measured"
    text = f"{arguments.segmenter}, top {arguments.top_k} of {seen['num_classes'] or 'unknown'} classes, all pairs"
    if seen["num_classes"] is None:
        return text
    return f"{text}; chance is {chance_consistency(seen['num_classes'], arguments.top_k):.3f}"
