"""The text-to-image table: every prompt at every aperture by every method, with its scores.

    python -m dofsuite.evaluate text2image experiments/baselines/*.yaml --prompts prompts.txt \
        -o runs/table2

DIR holds `report.md`, `.json` and `.html`, `rows/METHOD-HASH/` and
`pictures/METHOD/PROMPT-HASH/fN.png`. A method or a prompt that is added later joins the table;
images that are there are not generated again, also where they are scored with another segmenter,
CLIP or feature network.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from dofsuite.backbones import ClipImages
from dofsuite.data.synthetic.color_segmenter import ColorSegmenter, is_color_segmenter
from dofsuite.diffusion import draw_integer
from dofsuite.errors import UserError
from dofsuite.evaluation.fingerprint import config_hash
from dofsuite.evaluation.job import check_settings, compute_rows, default_device, pending
from dofsuite.evaluation.text2image.config import Text2ImageConfig
from dofsuite.evaluation.text2image.generators import SampleRequest
from dofsuite.evaluation.text2image.images import (
    has_images,
    image_folder,
    read_images,
    write_images,
)
from dofsuite.evaluation.text2image.interval import write_interval
from dofsuite.evaluation.text2image.methods import read_method, with_former_names
from dofsuite.evaluation.text2image.prompts import Prompt, open_set, read_prompts
from dofsuite.evaluation.text2image.report import Row, write
from dofsuite.evaluation.text2image.scores import Scorer, load_scorer
from dofsuite.images import quantize_8bit
from dofsuite.text2image.camera.exif import Exif


def run(config: Text2ImageConfig) -> None:
    if config.interval:
        print(*write_interval(config), sep="\n", flush=True)
        return

    # What can be checked before any network is loaded
    focal_mm = 50.0 if config.focal_length_mm is None else config.focal_length_mm
    Exif.checked(list(config.f_numbers), focal_mm)
    classes = ColorSegmenter.num_classes
    if is_color_segmenter(config.segmenter) and config.classes_per_pixel > classes:
        raise UserError(f"--top-k: the segmenter colors has {classes} classes; choose fewer.")
    prompts = read_prompts(str(config.prompts), config.count, config.focal_length_mm)
    no_set = "--photographs: no such set; name a folder of shards."
    photographs = None if config.photographs is None else open_set(config.photographs, no_set)
    num_images = len(prompts) * len(config.compared_f_numbers)
    if photographs is not None and min(num_images, len(photographs)) < 2:
        # KID and FID are of distributions
        raise UserError(
            f"--photographs: KID and FID need two images and photographs at least, not "
            f"{num_images} and {len(photographs)}; raise --count, give --compared more f-numbers, "
            "or leave --photographs out."
        )
    table = [table_row(file, config) for file in config.methods]
    for row in table:
        check_settings(image_folder(config.output, row.stem), row.cache_key, write=False)

    # CLIP-I is left out where its network cannot be loaded
    keys = [prompt.row for prompt in prompts]
    is_complete = not any(pending(rows_folder(row, config), keys) for row in table)
    notes = [] if is_complete else notes_on_clip(config)
    config = replace(config, clip="none") if notes else config

    # This process's rows; a second pass only reads rows that other processes finished
    scorer = cache(lambda: load_scorer(config))
    for _ in range(2):
        rows = [method_rows(row, prompts, config, scorer) for row in table]
        results = [(row, own) for row, own in zip(table, rows, strict=True) if own is not None]
        if len(results) == len(table):
            print(
                *write(config, prompts, results, photographs, scorer, notes), sep="\n", flush=True
            )
            return
    print(
        f"{config.output}: other processes still compute rows; the last of them writes the report.",
        flush=True,
    )


def notes_on_clip(config: Text2ImageConfig) -> list[str]:
    # Why it cannot be loaded; none where it can, is not wanted, or is what KID and FID need
    if config.clip == "none" or config.feature_network == "clip":
        return []
    try:
        ClipImages(config.clip).load()
    except UserError as error:
        note = f"CLIP-I: empty, because it cannot be loaded here ({str(error).rstrip('.')})."
        print(note, file=sys.stderr, flush=True)
        return [note]
    return []


def rows_folder(row: Row, config: Text2ImageConfig) -> Path:
    settings = row.cache_key | {"scores": config.scores()}
    return config.output / "rows" / f"{row.stem}-{config_hash(settings)}"


def table_row(file: Path, config: Text2ImageConfig) -> Row:
    # A method, with what its images depend on
    method, described = read_method(file)
    del described["name"], described["published"]
    cache_key = {
        "method": with_former_names(described),
        "sources": method.sources(),
        "f_numbers": list(config.f_numbers),
        "seed": config.seed,
    }
    return Row(file.stem, method, described, cache_key)


def method_rows(
    row: Row,
    prompts: list[Prompt],
    config: Text2ImageConfig,
    load_scorer: Callable[[], Scorer],
) -> list[dict[str, Any]] | None:
    # Networks are loaded with the first row and freed with the last
    by_row = {prompt.row: prompt for prompt in prompts}
    load_sampler = cache(lambda: row.method.load(default_device()))
    folder_of = partial(image_folder, config.output, row.stem)

    # Load before anything is written or computed: a network may be missing
    settings = row.cache_key | {"scores": config.scores()}
    folder = rows_folder(row, config)
    if missing := pending(folder, list(by_row)):
        load_scorer()
        if not all(has_images(folder_of(key), config.f_numbers) for key in missing):
            load_sampler()
    check_settings(folder_of(), row.cache_key)

    def compute(key: str) -> dict[str, Any]:
        # Images that are there are scored as they are
        images = folder_of(key)
        if has_images(images, config.f_numbers):
            return load_scorer().row(read_images(images, config.f_numbers))
        seed = draw_integer(config.seed, list(by_row).index(key), "text2image evaluation")
        cameras = Exif.checked(list(config.f_numbers), by_row[key].focal_length_mm)
        sweep = quantize_8bit(load_sampler()(SampleRequest(by_row[key].text, cameras, seed)))
        write_images(images, config.f_numbers, sweep)
        return load_scorer().row(sweep)

    return compute_rows(folder, list(by_row), compute, settings)
