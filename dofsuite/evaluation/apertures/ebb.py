"""`ebb`: our f/1.8 and f/16 beside EBB!'s photographs, from captions of the f/16 ones.

The supplement's Figure A2. Paper: InternVL3 captions the f/16 photographs, and the caption with the
aperture is all that the generator gets; the focal length is not stated. Here (*inferred*): 50 mm,
EBB!'s lens. The photographs are matched in words only, so the sheet is for looking at; the table
says of both sides how often the smaller aperture has more energy.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import Tensor

from dofsuite.data.importers.aperture_scenes import ApertureScene, find_scenes
from dofsuite.evaluation.apertures.config import EbbConfig
from dofsuite.evaluation.apertures.ebb_captions import captions_csv, captions_of
from dofsuite.evaluation.apertures.pairs import (
    COLUMNS,
    TITLE,
    AperturePair,
    aperture_pairs,
    hash_scenes,
    measure,
    measure_scene,
    row_of,
    statistics_of,
)
from dofsuite.evaluation.fingerprint import config_hash
from dofsuite.evaluation.job import compute_rows, default_device, seed_of
from dofsuite.evaluation.report import ImageSheet, write_report
from dofsuite.evaluation.statistics import difference
from dofsuite.evaluation.tables import Block, Cell, Table
from dofsuite.evaluation.text2image.generators import SampleRequest
from dofsuite.evaluation.text2image.images import image_folder, read_image_at, write_images
from dofsuite.evaluation.text2image.trained import ExportedGenerator
from dofsuite.files import write_text
from dofsuite.images import center_crop, quantize_8bit, read_image, resize
from dofsuite.text2image.camera.exif import Exif
from dofsuite.training import write_sheet

# Smaller images are enlarged on the sheet.
SHEET_PX = 192
# The sheet's part of a caption; the report has all of it.
ROW_TITLE_CHARACTERS = 48


def run(config: EbbConfig) -> None:
    # What the images depend on; cameras are checked before any network is loaded
    generator = ExportedGenerator(str(config.model))
    sources = generator.sources()
    captioned, caption_of, captions_source = captions_of(
        find_scenes(config.folder).scenes,
        config.scenes,
        config.captions,
        config.captioner,
        config.prompt,
    )
    scenes = {scene.key: scene for scene in captioned}
    cameras = {
        key: Exif.checked(end_apertures(scene), config.focal_length_mm)
        for key, scene in scenes.items()
    }
    settings = {
        "captions": captions_source,
        "model": sources,
        "files": hash_scenes(captioned, config.folder),
        "focal_length_mm": config.focal_length_mm,
        "seed": config.seed,
    }
    version = config_hash(settings)
    output = config.output or config.model / "ebb" / config.folder.resolve().name
    load_sampler = cache(lambda: generator.load(default_device()))

    def compute(key: str) -> dict[str, Any]:
        # Both apertures from the same noise
        scene, caption = scenes[key], caption_of(scenes[key])
        request = SampleRequest(caption, cameras[key], seed_of(key, config.seed))
        images, f_numbers = load_sampler()(request), end_apertures(scene)
        write_images(image_folder(output, version, key), f_numbers, images)
        return {
            "key": key,
            "caption": caption,
            "ours": measure(key, zip(f_numbers, quantize_8bit(images), strict=True)),
            "photographs": measure_scene(scene),
        }

    rows = compute_rows(output / "rows" / version, list(scenes), compute, settings)
    if rows is None:
        print(f"{output}: this process's photographs are done; the last process writes the report.")
        return
    facts = {
        "folder": config.folder.resolve().name,
        "model": config.model.as_posix(),
        "captions": captions_source,
        "focal length": f"{config.focal_length_mm:g} mm on 36 mm of sensor",
        "seed": config.seed,
    }
    print(*write(output, version, scenes, rows, facts), sep="\n")


def end_apertures(scene: ApertureScene) -> list[float]:
    # Of EBB!, 1.8 and 16
    return [min(scene.files), max(scene.files)]


def write(
    output: Path,
    version: str,
    scenes: dict[str, ApertureScene],
    rows: Sequence[dict[str, Any]],
    facts: dict[str, Any],
) -> list[Path]:
    # Columns: photograph and ours, at the larger and the smaller aperture
    apertures = {tuple(end_apertures(scene)) for scene in scenes.values()}
    ends = ["wide", "narrow"]
    if len(apertures) == 1:
        ends = [f"f/{number:g}" for number in apertures.pop()]
    columns = [f"{side} {end}" for end in ends for side in ("photograph", "ours")]
    sheet = [(row["caption"], image_row(output, version, scenes[row["key"]])) for row in rows]

    # Captions, sheet, report
    write_text(output / "captions.csv", captions_csv({row["key"]: row["caption"] for row in rows}))
    titles = [shorten(caption, ROW_TITLE_CHARACTERS) for caption, _ in sheet]
    scale = max(1, SHEET_PX // sheet[0][1][0].shape[-1])
    write_sheet(output / "sheet.png", [images for _, images in sheet], columns, titles, scale)
    files = write_report(
        output,
        "Ours beside photographs",
        [table_of(rows)],
        [ImageSheet("By caption", columns, sheet)],
        facts,
    )
    return [*files, output / "sheet.png", output / "captions.csv"]


def image_row(output: Path, version: str, scene: ApertureScene) -> list[Tensor]:
    images = []
    for number in end_apertures(scene):
        ours = read_image_at(image_folder(output, version, scene.key), number)
        images += [center_resized(read_image(scene.files[number]), *ours.shape[-2:]), ours]
    return images


def center_resized(image: Tensor, height: int, width: int) -> Tensor:
    # The center of [3, h, w] in the aspect ratio of height and width, resized to them
    scale = min(image.shape[-2] / height, image.shape[-1] / width)
    part = center_crop(image, max(1, round(height * scale)), max(1, round(width * scale)))
    return resize(part, height, width)


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    lines: list[tuple[str, list[Cell]]] = []
    none: list[Cell] = [0, *[None] * (len(COLUMNS) - 1)]
    for side in ("photographs", "ours"):
        pairs = outermost_pairs(rows, side)
        lines.append((side, row_of(pairs) if pairs else none))

    # Ours minus the photographs, of the same captions
    complete = [row for row in rows if row["photographs"]["one_size"] and row["ours"]["one_size"]]
    blocks: tuple[Block, ...] = ()
    if complete:
        theirs, ours = (
            statistics_of(outermost_pairs(complete, side)) for side in ("photographs", "ours")
        )
        cells: list[Cell] = [
            difference(ours[name], theirs[name]) if name in ours else None for name in COLUMNS
        ]
        title = "Difference to the photographs, paired by caption"
        blocks = (Block(title, [("ours", cells)], is_difference=True),)
    notes = (
        "photographs at their own size, all pixels; the sheet shows their center at our size",
        "intervals: 95 %, bootstrap over captions, none below 5",
    )
    return Table(TITLE, COLUMNS, lines, notes, blocks=blocks)


def outermost_pairs(rows: Sequence[dict[str, Any]], side: str) -> list[AperturePair]:
    pairs = aperture_pairs(row[side] for row in rows if row[side]["one_size"])
    return [pair for pair in pairs if pair.outermost]
