"""`pairs`: does a smaller aperture give photographs more blur energy? The papers' check on EBB!.

Paper (supplement, section F): of the pairs of EBB! 96 % have E(f/16) > E(f/1.8), E the sum of
squares. That energy also depends on brightness, so beside it stand: the mean-removed energy (`ac`),
how bright the images of a pair are, how often the order of the energies is the order of brightness,
and both energies of linear light, where a lens without border and occlusion can only lower them.
Which values the paper took is not stated; here (*inferred*): display values.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.data.importers.aperture_scenes import ApertureScene, FoundScenes, find_scenes
from dofsuite.errors import UserError
from dofsuite.evaluation.apertures.config import PairsConfig
from dofsuite.evaluation.fingerprint import config_hash
from dofsuite.evaluation.job import compute_rows
from dofsuite.evaluation.report import ImageSheet, write_report
from dofsuite.evaluation.statistics import Statistic, estimate, ratio, wilson_interval
from dofsuite.evaluation.tables import Block, Cell, Table
from dofsuite.images import read_image, thumbnail
from dofsuite.metrics import blur_energy
from dofsuite.metrics.monotonicity import TIE
from dofsuite.optics import srgb_to_linear

# Images in the report are shown no larger.
MAX_PX = 256
# Column of the table -> energy of display values [3, h, w].
ENERGIES: dict[str, Callable[[Tensor], Tensor]] = {
    "paper": lambda image: blur_energy(image, "paper"),
    "ac": lambda image: blur_energy(image, "ac"),
    "paper, in light": lambda image: blur_energy(srgb_to_linear(image), "paper"),
    "ac, in light": lambda image: blur_energy(srgb_to_linear(image), "ac"),
}
COLUMNS = ("pairs", *ENERGIES, "brightness ratio", "order of brightness", "ties (ac)")
TITLE = "Share of pairs with E(smaller aperture) > E(larger aperture)"
# Of EBB! (*stated*).
PAPER_SHARE = 0.96
PAPER_TITLE = "The paper's own number: of EBB!'s pairs, by an energy that moves with brightness"
# Relative difference below which mean display values are equal: images are decoded in float32.
BRIGHTNESS_TIE = 1e-6
COLUMN_NOTES = (
    "intervals in the table: 95 %, bootstrap over scenes, none below 5; where all pairs agree they "
    "have no width: read Wilson's",
    "paper, ac: share of pairs in which the smaller aperture's photograph has more of that energy",
    "brightness ratio: median of the mean display value at the smaller aperture over that at the "
    "larger",
    "order of brightness: share of pairs in which the paper's energy rises exactly where the "
    "brightness does",
)


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


def measure(key: str, images: Iterable[tuple[float, Tensor]]) -> dict[str, Any]:
    """Return f-numbers, and each image's energies and mean display value; plain data.

    Args:
        key: The scene's name.
        images: f-number and display values [3, h, w] in [0, 1], in order of f-number.
    """
    # One image at a time, in float64
    measured = []
    for f_number, image in images:
        image = image.double()
        energies = {name: energy(image).item() for name, energy in ENERGIES.items()}
        measured.append((f_number, image.mean().item(), energies, image.shape))
    f_numbers, brightness, by_image, shapes = zip(*measured, strict=True)
    return {
        "key": key,
        "f_numbers": f_numbers,
        "brightness": brightness,
        "energies": {name: [energies[name] for energies in by_image] for name in ENERGIES},
        "one_size": len(set(shapes)) == 1,
    }


# Two photographs of a scene, the one with the larger f-number second.
class AperturePair(NamedTuple):
    key: str
    wide: float
    narrow: float
    # Whether no other aperture of the scene lies between them.
    adjacent: bool
    # Whether they are the scene's largest and smallest aperture.
    outermost: bool
    brightness: tuple[float, float]
    energies: dict[str, tuple[float, float]]

    def rise(self, name: str) -> int:
        # 1 where the smaller aperture has more of this energy, 0 for a tie, else -1
        return order(*self.energies[name])


def order(before: float, after: float, tie: float = TIE) -> int:
    """Return 1, 0 or -1 as `after` is larger, tied or smaller: `blur_monotonicity`'s rule."""
    difference = after - before
    return 0 if abs(difference) <= tie * max(before, after) else int(math.copysign(1, difference))


def aperture_pairs(scenes: Iterable[dict[str, Any]]) -> list[AperturePair]:
    pairs = []
    for scene in scenes:
        f_numbers, brightness = scene["f_numbers"], scene["brightness"]
        # i is the larger aperture, j the smaller
        for j in range(len(f_numbers)):
            pairs += [
                AperturePair(
                    scene["key"],
                    f_numbers[i],
                    f_numbers[j],
                    adjacent=j == i + 1,
                    outermost=i == 0 and j == len(f_numbers) - 1,
                    brightness=(brightness[i], brightness[j]),
                    energies={name: (e[i], e[j]) for name, e in scene["energies"].items()},
                )
                for i in range(j)
            ]
    return pairs


def table_of(pairs: list[AperturePair], notes: Sequence[str]) -> Table:
    rows = [(name, row_of(kind)) for name, kind in kinds_of(pairs).items()]
    paper = Block(PAPER_TITLE, [("EBB!", [None, PAPER_SHARE, *[None] * (len(COLUMNS) - 2)])])
    blocks = (paper._replace(decimals=2),)

    # Intervals of one pair a scene
    intervals = []
    outermost = [pair for pair in pairs if pair.outermost]
    for name in ("paper", "ac"):
        count = sum(pair.rise(name) > 0 for pair in outermost)
        low, high = wilson_interval(count, len(outermost))
        intervals.append(
            f"{name}: {count / len(outermost):.4f}, with a 95 % interval of {low:.4f} to "
            f"{high:.4f} (Wilson) for {len(outermost)} scenes"
        )
    return Table(TITLE, COLUMNS, rows, (*COLUMN_NOTES, *intervals, *notes), blocks=blocks)


def kinds_of(pairs: list[AperturePair]) -> dict[str, list[AperturePair]]:
    # The pairs of every row: all; adjacent; outermost; each aperture with the smallest
    apertures = {(pair.wide, pair.narrow) for pair in pairs}
    if len(apertures) == 1:
        return {name_of(*apertures.pop()): pairs}

    # Scenes with more than two apertures
    kinds = {"all pairs of apertures": pairs}
    if not all(pair.adjacent for pair in pairs):
        kinds["neighbouring apertures"] = [pair for pair in pairs if pair.adjacent]
        kinds["largest and smallest"] = [pair for pair in pairs if pair.outermost]

    # Each aperture with its scene's smallest
    smallest = {pair.key: pair.narrow for pair in pairs if pair.outermost}
    for pair in sorted(pairs, key=lambda pair: (pair.wide, pair.narrow)):
        if pair.narrow == smallest[pair.key]:
            kinds.setdefault(name_of(pair.wide, pair.narrow), []).append(pair)
    return kinds


def name_of(wide: float, narrow: float) -> str:
    return f"f/{wide:g} and f/{narrow:g}"


def row_of(pairs: list[AperturePair]) -> list[Cell]:
    found = statistics_of(pairs)
    cells: list[Cell] = [len(pairs)]
    cells += [estimate(found[name]) if name in found else None for name in COLUMNS[1:]]

    # Brightness: the median ratio, which has no interval
    ratios = [pair.brightness[1] / max(pair.brightness[0], 1e-6) for pair in pairs]
    median = torch.tensor(ratios, dtype=torch.float64).quantile(0.5).item()
    cells[COLUMNS.index("brightness ratio")] = median
    return cells


def statistics_of(pairs: Sequence[AperturePair]) -> dict[str, Statistic]:
    """Return the shares of pairs as statistics over scenes, in order of the scenes' keys.

    Of pairs whose energy rises, is tied (ac), or has the order of the brightness (paper).
    """
    hits: dict[str, dict[str, int]] = {name: {} for name in COLUMNS if name != "brightness ratio"}
    for pair in sorted(pairs, key=lambda pair: pair.key):
        signs = {name: pair.rise(name) for name in ENERGIES}
        of_pair = {name: rise > 0 for name, rise in signs.items()}
        of_pair |= {"pairs": True, "ties (ac)": signs["ac"] == 0}
        of_pair["order of brightness"] = order(*pair.brightness, BRIGHTNESS_TIE) == signs["paper"]
        for name, hit in of_pair.items():
            hits[name][pair.key] = hits[name].get(pair.key, 0) + hit
    counts = list(hits.pop("pairs").values())
    return {name: ratio(list(own.values()), counts) for name, own in hits.items()}


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
        if rows := [failure_row(scenes[pair.key], pair, name) for pair in failing[: max(0, count)]]:
            title = f"{len(failing)} pairs fail in {name}; the worst of them"
            sheets.append(ImageSheet(title, ["larger aperture", "smaller aperture"], rows))
    return sheets


def failure_row(scene: ApertureScene, pair: AperturePair, name: str) -> tuple[str, list[Tensor]]:
    before, after = pair.energies[name]
    title = f"{pair.key}, f/{pair.wide:g} to f/{pair.narrow:g}: {before:.4g} to {after:.4g}"
    files = (scene.files[pair.wide], scene.files[pair.narrow])
    return title, [thumbnail(read_image(file), MAX_PX) for file in files]
