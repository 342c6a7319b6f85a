"""`ebb`: our f/1.8 and f/16 beside EBB!'s photographs, from captions of the f/16 ones (the supplement's Figure A2).

Paper: InternVL3 captions the f/16 photographs, and the caption with the aperture is all that the
generator gets; the focal length is not stated. Here (*inferred*): 50 mm, EBB!'s lens. The
photographs are not matched but in words, so the sheet is for looking at; the table says of both
sides how often the smaller aperture has more energy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import Tensor

from dofsuite.cli import Parser
from dofsuite.errors import UserError
from dofsuite.evaluation.apertures.ebb_captions import captions_csv, captions_of
from dofsuite.evaluation.apertures.pairs import identity_of, measured_scene
from dofsuite.evaluation.apertures.pairs_table import COLUMNS, TITLE, measured, row_of, steps_of
from dofsuite.evaluation.apertures.scenes import ApertureScene, find_scenes
from dofsuite.evaluation.fingerprint import config_hash
from dofsuite.evaluation.job import compute_rows, default_device, seed_of
from dofsuite.evaluation.report import ImageSheet, Table, write_report
from dofsuite.evaluation.text2image.generators import Sampler, SampleRequest
from dofsuite.evaluation.text2image.images import pictures_of, write_pictures
from dofsuite.evaluation.text2image.images import read_picture as read_ours
from dofsuite.evaluation.text2image.trained import ExportedGenerator
from dofsuite.files import write_text
from dofsuite.images import center_crop, quantize_8bit, read_image, resize
from dofsuite.text2image.camera.exif import Exif
from dofsuite.training import write_sheet

SHOWN_PX = 192
"""Smaller pictures are enlarged on the sheet."""
ROW_TITLE_LETTERS = 48
"""The sheet's part of a caption; the report has all of it."""

DESCRIPTION = (
    "Put our photographs beside EBB!'s: the caption of each f/16 photograph, at f/1.8 and f/16."
)


def configure(parser: Parser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="DIR",
        help="original/ and bokeh/ (EBB!), or names like ID_f2.8.jpg",
    )
    add(
        "--model",
        type=Path,
        required=True,
        metavar="RUN",
        help="a text-to-image run, or its export",
    )
    add(
        "--captions",
        type=Path,
        metavar="CSV",
        help="columns name,caption; its photographs alone are taken",
    )
    add(
        "--captioner",
        default="Salesforce/blip2-opt-2.7b",
        metavar="PATH_OR_ID",
        help="without --captions",
    )
    add("--prompt", help="what the captioner is asked, or a caption's beginning")
    add(
        "--scenes",
        type=int,
        default=8,
        help="photographs, spread evenly over all; default %(default)s",
    )
    add(
        "--focal-length",
        type=float,
        default=50.0,
        metavar="MM",
        help="on 36 mm of sensor; default %(default)g",
    )
    add("--seed", type=int, default=0, help="of the noise")
    add("-o", "--output", type=Path, metavar="DIR", help="default: RUN/ebb/NAME")


def run(arguments: argparse.Namespace) -> None:
    """Caption, generate and photograph this process's scenes; whoever finishes last writes the report."""
    if arguments.scenes < 1:
        raise UserError(
            f"--scenes: {arguments.scenes} is no number of photographs; it must be 1 or above."
        )
    found = find_scenes(arguments.folder).scenes
    generator = ExportedGenerator(str(arguments.model))
    sources = generator.sources()
    captions = captions_of(
        found, arguments.scenes, arguments.captions, arguments.captioner, arguments.prompt
    )
    for scene in captions.scenes:
        Exif.checked(ends_of(scene), arguments.focal_length)
    output = arguments.output or arguments.model / "ebb" / arguments.folder.resolve().name
    settings = {
        "captions": captions.source,
        "model": sources,
        "files": identity_of(captions.scenes, arguments.folder),
        "focal_length_mm": arguments.focal_length,
        "seed": arguments.seed,
    }
    version, scenes = config_hash(settings), {scene.key: scene for scene in captions.scenes}
    paint = cache(lambda: generator.load(default_device()))

    def make(key: str) -> dict[str, Any]:
        caption = captions.of(scenes[key])
        ours = photographed(paint(), caption, scenes[key], arguments)
        write_pictures(pictures_of(output, version, key), ends_of(scenes[key]), ours)
        of_ours = measured(key, zip(ends_of(scenes[key]), quantize_8bit(ours), strict=True))
        return {
            "key": key,
            "caption": caption,
            "ours": of_ours,
            "photographs": measured_scene(scenes[key]),
        }

    made = compute_rows(output / "rows" / version, list(scenes), make, settings)
    if made is None:
        print(f"{output}: this process's photographs are done; the last process writes the report.")
        return
    for file in write(output, version, scenes, made, facts_of(arguments, captions.source)):
        print(file)


def ends_of(scene: ApertureScene) -> list[float]:
    """Return the largest and the smallest aperture's f-numbers (of EBB!, 1.8 and 16)."""
    return [min(scene.files), max(scene.files)]


def photographed(
    paint: Sampler, caption: str, scene: ApertureScene, arguments: argparse.Namespace
) -> Tensor:
    """Return our two photographs [2, 3, h, w] of a caption, from one noise."""
    cameras = Exif.checked(ends_of(scene), arguments.focal_length)
    return paint(SampleRequest(caption, cameras, seed_of(scene.key, arguments.seed)))


def write(
    output: Path,
    version: str,
    scenes: dict[str, ApertureScene],
    made: Sequence[dict[str, Any]],
    facts: dict[str, Any],
) -> list[Path]:
    """Write the report, the sheet and the captions, and return their files."""
    sheet = [(row["caption"], pictures_beside(output, version, scenes[row["key"]])) for row in made]
    apertures = {tuple(ends_of(scene)) for scene in scenes.values()}
    ends = (
        [f"f/{number:g}" for number in apertures.pop()]
        if len(apertures) == 1
        else ["wide", "narrow"]
    )
    columns = [f"{whose} {end}" for end in ends for whose in ("photograph", "ours")]
    write_text(output / "captions.csv", captions_csv({row["key"]: row["caption"] for row in made}))
    titles = [shorten(caption, ROW_TITLE_LETTERS) for caption, _ in sheet]
    scale = max(1, SHOWN_PX // sheet[0][1][0].shape[-1])
    write_sheet(output / "sheet.png", [pictures for _, pictures in sheet], columns, titles, scale)
    files = write_report(
        output,
        "Ours beside photographs",
        [table_of(made)],
        [ImageSheet("By caption", columns, sheet)],
        facts,
    )
    return [*files, output / "sheet.png", output / "captions.csv"]


def pictures_beside(output: Path, version: str, scene: ApertureScene) -> list[Tensor]:
    """Return photograph and ours at the larger aperture, then at the smaller, all of our pictures' size."""
    pictures = []
    for number in ends_of(scene):
        ours = read_ours(pictures_of(output, version, scene.key), number)
        pictures += [
            center_resized(read_image(scene.files[number]), *ours.shape[-2:]),
            ours,
        ]
    return pictures


def center_resized(image: Tensor, height: int, width: int) -> Tensor:
    """Return the center of [3, h, w] in the aspect ratio of height and width, resized to them."""
    scale = min(image.shape[-2] / height, image.shape[-1] / width)
    part = center_crop(image, max(1, round(height * scale)), max(1, round(width * scale)))
    return resize(part, height, width)


def table_of(made: Sequence[dict[str, Any]]) -> Table:
    """Return how often the smaller aperture has more energy, among the photographs and among ours."""
    lines: list[tuple[str, list[float | int | None]]] = []
    for name in ("photographs", "ours"):
        steps = [
            step
            for step in steps_of(row[name] for row in made if row[name]["one_size"])
            if step.outermost
        ]
        lines.append((name, row_of(steps) if steps else [0, *[None] * (len(COLUMNS) - 1)]))
    notes = (
        "photographs at their own size, all pixels; the sheet shows their middle at our pictures' size",
    )
    return Table(TITLE, COLUMNS, lines, notes)


def facts_of(arguments: argparse.Namespace, captions: dict[str, Any]) -> dict[str, Any]:
    """Return what the pictures depend on."""
    return {
        "folder": arguments.folder.resolve().name,
        "model": arguments.model.as_posix(),
        "captions": captions,
        "focal length": f"{arguments.focal_length:g} mm on 36 mm of sensor",
        "seed": arguments.seed,
    }
