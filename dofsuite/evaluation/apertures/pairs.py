"""`pairs`: does a smaller aperture give more blur energy, in photographs? The papers' check on EBB!.

Paper (supplement, section F): of the pairs of EBB! 96 % have E(f/16) > E(f/1.8), E the sum of
squares. That energy also moves with brightness, so beside it stand: the mean-removed energy (`ac`),
how bright the pictures of a pair are, how often the order of the energies is the order of
brightness, and both energies of linear light, where a lens without border and occlusion can only
lower them. Which values the paper took is not stated; here (*inferred*): display values.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dofsuite.cli import Parser
from dofsuite.errors import UserError
from dofsuite.evaluation.apertures.pairs_table import (
    ENERGIES,
    AperturePair,
    measured,
    steps_of,
    table_of,
)
from dofsuite.evaluation.apertures.scenes import ApertureScene, Found, find_scenes
from dofsuite.evaluation.fingerprint import config_hash, hash_file_stats
from dofsuite.evaluation.job import compute_rows
from dofsuite.evaluation.report import ImageSheet, write_report
from dofsuite.images import read_image, thumbnail
from dofsuite.metrics.monotonicity import TIE

DESCRIPTION = (
    "Check in a folder of photographs that a smaller aperture gives more blur energy (EBB!: 96 %)."
)

SHOWN_PX = 256


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="original/ and bokeh/ (EBB!), or names like ID_f2.8.jpg",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="of the report; default runs/pairs/NAME"
    )
    parser.add_argument(
        "--sheet-pairs", type=int, default=4, help="failing pairs shown for each energy"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure this process's scenes; whoever finishes last writes the report."""
    found = find_scenes(arguments.folder)
    output = arguments.output or Path("runs/pairs") / arguments.folder.resolve().name
    scenes = {scene.key: scene for scene in found.scenes}
    settings = {"energies": list(ENERGIES), "files": identity_of(found.scenes, arguments.folder)}
    found_rows = compute_rows(
        output / "rows" / config_hash(settings),
        list(scenes),
        lambda key: measured_scene(scenes[key]),
        settings,
    )
    if found_rows is None:
        print(f"{output}: this process's scenes are done; the last process writes the report.")
        return
    whole = [scene for scene in found_rows if scene["one_size"]]
    if not whole:
        raise UserError(
            f"{arguments.folder}: in no scene have the pictures one size; align and crop them first."
        )
    notes = notes_on(found, found_rows)
    steps = steps_of(whole)
    pictures = failures(scenes, steps, arguments.sheet_pairs)
    facts = {
        "folder": arguments.folder.resolve().name,
        "scenes": len(whole),
        "energies": "sum of squares of RGB in [0, 1] (paper), without the mean (ac); own size, all pixels",
        "light": "sRGB decoded (IEC 61966-2-1)",
        "ties": f"relative difference below {TIE:g}; a tie is no rise",
    }
    title = f"Blur energy and aperture in {arguments.folder.resolve().name}"
    for file in write_report(output, title, [table_of(steps, notes)], pictures, facts):
        print(file)


def identity_of(scenes: Sequence[ApertureScene], folder: Path) -> str:
    """Return a hash of the scenes' files, by names, sizes and times."""
    return hash_file_stats(folder, [path for scene in scenes for path in scene.files.values()])


def measured_scene(scene: ApertureScene) -> dict[str, Any]:
    """Return what `measured` says of a scene's photographs, of which one at a time is in memory."""
    return measured(scene.key, ((number, read_image(path)) for number, path in scene.files.items()))


def notes_on(found: Found, scenes: Sequence[dict[str, Any]]) -> list[str]:
    """Say what was left out."""
    unlike = [scene["key"] for scene in scenes if not scene["one_size"]]
    notes = []
    if unlike:
        notes.append(
            f"{len(unlike)} scenes left out, whose pictures differ in size, such as {unlike[0]}"
        )
    if found.alone:
        notes.append(
            f"{len(found.alone)} pictures left out, which have no partner, such as {found.alone[0].name}"
        )
    return notes


def failures(
    scenes: dict[str, ApertureScene], steps: list[AperturePair], count: int
) -> list[ImageSheet]:
    """Return sheets of the pairs that fail most, in the paper's energy and without the mean."""
    sheets = []
    for name in ("paper", "ac"):
        failing = [step for step in steps if step.outermost and step.rise(name) <= 0]
        failing.sort(key=lambda step: step.energies[name][1] / max(step.energies[name][0], 1e-300))
        shown = [failure(scenes[step.key], step, name) for step in failing[: max(0, count)]]
        if shown:
            title = f"{len(failing)} pairs fail in {name}; the worst of them"
            sheets.append(ImageSheet(title, ["larger aperture", "smaller aperture"], shown))
    return sheets


def failure(scene: ApertureScene, step: AperturePair, name: str) -> tuple[str, list[Tensor]]:
    """Return a pair's row on the sheet: what it is, with its energies, and its two pictures."""
    before, after = step.energies[name]
    title = f"{step.key}, f/{step.wide:g} to f/{step.narrow:g}: {before:.4g} to {after:.4g}"
    return title, [
        thumbnail(read_image(scene.files[number]), SHOWN_PX) for number in (step.wide, step.narrow)
    ]
