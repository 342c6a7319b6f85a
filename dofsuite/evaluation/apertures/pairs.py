"""`pairs`: does a smaller aperture give photographs more blur energy? The papers' check on EBB!.

Paper (supplement, section F): of the pairs of EBB! 96 % have E(f/16) > E(f/1.8), E the sum of
squares. That energy also depends on brightness, so beside it stand: the mean-removed energy (`ac`),
how bright the images of a pair are, how often the order of the energies is the order of brightness,
and both energies of linear light, where a lens without border and occlusion can only lower them.
Which values the paper took is not stated; here (*inferred*): display values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dofsuite.errors import UserError
from dofsuite.evaluation.apertures.config import PairsConfig
from dofsuite.evaluation.apertures.pairs_table import (
    ENERGIES,
    AperturePair,
    aperture_pairs,
    measure,
    table_of,
)
from dofsuite.evaluation.apertures.scenes import ApertureScene, FoundScenes, find_scenes
from dofsuite.evaluation.fingerprint import config_hash
from dofsuite.evaluation.job import compute_rows
from dofsuite.evaluation.report import ImageSheet, write_report
from dofsuite.images import read_image, thumbnail
from dofsuite.metrics.monotonicity import TIE

# Images in the report are shown no larger.
MAX_PX = 256


def run(config: PairsConfig) -> None:
    # Measure the scenes
    found, name = find_scenes(config.folder), config.folder.resolve().name
    output = config.output or Path("runs/pairs") / name
    scenes = {scene.key: scene for scene in found.scenes}
    settings = {"energies": list(ENERGIES), "files": hash_scenes(found.scenes, config.folder)}
    folder = output / "rows" / config_hash(settings)
    rows = compute_rows(folder, list(scenes), lambda key: measure_scene(scenes[key]), settings)
    if rows is None:
        print(f"{output}: this process's scenes are done; the last process writes the report.")
        return

    # Pairs of images of one size
    complete = [row for row in rows if row["one_size"]]
    if not complete:
        raise UserError(
            f"{config.folder}: in no scene do the images have one size; align and crop them first."
        )
    pairs = aperture_pairs(complete)

    # Report
    facts = {
        "folder": name,
        "scenes": len(complete),
        "energies": "sum of squares of RGB in [0, 1] (paper), without the mean (ac); own size, "
        "all pixels",
        "light": "sRGB decoded (IEC 61966-2-1)",
        "ties": f"relative difference below {TIE:g}; a tie is no rise",
    }
    title, tables = f"Blur energy and aperture in {name}", [table_of(pairs, notes_on(found, rows))]
    sheets = failure_sheets(scenes, pairs, config.sheet_pairs)
    print(*write_report(output, title, tables, sheets, facts), sep="\n")


def hash_scenes(scenes: Sequence[ApertureScene], folder: Path) -> str:
    # By names, sizes and times; nothing is read
    stats = {
        file.relative_to(folder).as_posix(): file.stat()
        for scene in scenes
        for file in scene.files.values()
    }
    return config_hash({name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()})


def measure_scene(scene: ApertureScene) -> dict[str, Any]:
    # One photograph at a time is in memory
    return measure(scene.key, ((number, read_image(path)) for number, path in scene.files.items()))


def notes_on(found: FoundScenes, rows: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    if unlike := [row["key"] for row in rows if not row["one_size"]]:
        notes.append(
            f"{len(unlike)} scenes left out, whose images differ in size, such as {unlike[0]}"
        )
    if found.alone:
        notes.append(
            f"{len(found.alone)} images left out, which have no partner, such as "
            f"{found.alone[0].name}"
        )
    return notes


def failure_sheets(
    scenes: dict[str, ApertureScene], pairs: list[AperturePair], count: int
) -> list[ImageSheet]:
    sheets = []
    for name in ("paper", "ac"):
        failing = [pair for pair in pairs if pair.outermost and pair.rise(name) <= 0]
        failing.sort(key=lambda pair: pair.energies[name][1] / max(pair.energies[name][0], 1e-300))
        rows = [failure_row(scenes[pair.key], pair, name) for pair in failing[: max(0, count)]]
        if rows:
            title = f"{len(failing)} pairs fail in {name}; the worst of them"
            sheets.append(ImageSheet(title, ["larger aperture", "smaller aperture"], rows))
    return sheets


def failure_row(scene: ApertureScene, pair: AperturePair, name: str) -> tuple[str, list[Tensor]]:
    before, after = pair.energies[name]
    title = f"{pair.key}, f/{pair.wide:g} to f/{pair.narrow:g}: {before:.4g} to {after:.4g}"
    files = (scene.files[pair.wide], scene.files[pair.narrow])
    return title, [thumbnail(read_image(file), MAX_PX) for file in files]
