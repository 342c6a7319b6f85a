"""`build-benchmark`: DiffCamera's refocus benchmark from any folder of all-in-focus pictures (section 4.1).

    python -m dofsuite.evaluate build-benchmark photos -o benchmarks/refocus --depth-model
    python -m dofsuite.evaluate build-benchmark embedded:val --count 6 -o benchmarks/held_out --size
    64

Of each picture ten samples: 2 refocus (one pair of points with two levels, used both ways), 4
add-bokeh (one point, four levels) and 4 deblur (the add-bokeh pictures reversed: level 0, focus at
the centre).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from dofsuite.cli import Parser
from dofsuite.data.manifest import sha256_of
from dofsuite.errors import UserError
from dofsuite.evaluation.job import place, rows, seed_of
from dofsuite.evaluation.refocus_benchmark.depth import METRIC, RELATIVE, depth_model
from dofsuite.evaluation.refocus_benchmark.format import (
    FORMAT,
    MANIFEST,
    checksum_of,
    read_benchmark,
)
from dofsuite.evaluation.refocus_benchmark.points import (
    Points,
    points_csv,
    read_points,
    seeded_points,
)
from dofsuite.evaluation.refocus_benchmark.points_page import PagePicture, points_page
from dofsuite.evaluation.refocus_benchmark.scene import Recipe, entry_of, write_scene
from dofsuite.evaluation.refocus_benchmark.sources import (
    SOURCES,
    Original,
    checksum_of_originals,
    find_originals,
    read_original,
)
from dofsuite.evaluation.refocus_benchmark.synthetic import embedded_originals, is_embedded
from dofsuite.files import write_json, write_text
from dofsuite.refocus.rendering import Rendering

DESCRIPTION = "Make a refocus benchmark of a folder of all-in-focus pictures."


def configure(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="pictures, in camera/, phone/ and ai/ or with --source; or embedded:val, whose disparity is true",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="the benchmark"
    )
    parser.add_argument("--count", type=int, metavar="N", help="the first N by name; default: all")
    parser.add_argument(
        "--source", choices=SOURCES, help="tag of pictures that lie in none of the three folders"
    )
    parser.add_argument(
        "--depth-maps",
        type=Path,
        metavar="DIR",
        help="maps of the pictures' stems (default: beside them)",
    )
    parser.add_argument(
        "--depth-kind",
        choices=("disparity", "depth"),
        default="disparity",
        help="larger is nearer, or farther",
    )
    parser.add_argument(
        "--depth-model",
        nargs="?",
        const=RELATIVE,
        metavar="NAME[=PATH]",
        help=f"make depth: {RELATIVE} (Depth Anything V2; also without NAME), {', '.join(METRIC)}",
    )
    parser.add_argument(
        "--points", type=Path, metavar="CSV", help="chosen by a person (default: by a seeded rule)"
    )
    parser.add_argument(
        "--points-page",
        action="store_true",
        help="write DIR/points.html, in which one clicks them, and stop",
    )
    parser.add_argument(
        "--size", type=int, default=512, help="side of the pictures in px (stated: 512)"
    )
    parser.add_argument("--levels", default="5,10,15,20", help="of adding bokeh, rising (ours)")
    parser.add_argument(
        "--refocus-levels", default="20,10", help="of the two refocus pictures (ours)"
    )
    parser.add_argument(
        "--gamma", type=float, default=4.0, help="display value to light (inferred: BokehMe's)"
    )
    parser.add_argument("--layers", type=int, default=61, help="of the renderer, over disparity")
    parser.add_argument(
        "--reference-width",
        type=float,
        default=512.0,
        help="width at which a level is px of radius",
    )
    parser.add_argument(
        "--plane-gap",
        type=float,
        default=0.25,
        help="least disparity between the seeded points (ours)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the seeded points")


def run(arguments: argparse.Namespace) -> None:
    """Write the page, or the benchmark."""
    recipe = recipe_of(arguments)
    originals = originals_of(arguments)
    model = depth_model(arguments.depth_model) if arguments.depth_model else None
    read = partial(
        read_original,
        size_px=recipe.size_px,
        depth_folder=arguments.depth_maps,
        depth_kind=arguments.depth_kind,
        model=model,
    )
    if arguments.points_page:
        write_page(arguments.output, originals, read, recipe.plane_gap)
        return
    chosen = (
        read_points(arguments.points, [o.scene for o in originals]) if arguments.points else None
    )
    made_of = {
        "points": "by a person" if chosen else "seeded",
        "depth": arguments.depth_model or f"maps of {arguments.depth_kind}",
        "originals_sha256": checksum_of_originals(
            originals, arguments.depth_maps, model is not None
        ),
    }
    build(arguments.output, originals, read, recipe, chosen, made_of)


def originals_of(arguments: argparse.Namespace) -> list[Original]:
    """Find the pictures, or write those of an embedded set.

    Raises:
        UserError: There are none, or what is said of their depth contradicts itself.
    """
    if arguments.depth_maps and arguments.depth_model:
        raise UserError(
            "--depth-model: depth comes from maps or from a model; leave out one of the two."
        )
    if arguments.count is not None and arguments.count < 1:
        raise UserError(
            f"--count: {arguments.count} is no number of pictures; it must be 1 or above."
        )
    if not is_embedded(arguments.folder):
        return find_originals(arguments.folder, arguments.source)[: arguments.count]
    if arguments.depth_maps or arguments.depth_kind != "disparity":
        raise UserError(
            f"{arguments.folder}: it brings its disparity; leave out --depth-maps and --depth-kind."
        )
    return embedded_originals(
        str(arguments.folder), arguments.count, arguments.source, arguments.output
    )


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Check the numbers of the command line.

    Raises:
        UserError: One of them cannot be.
    """
    levels, pair = (
        numbers("--levels", arguments.levels),
        numbers("--refocus-levels", arguments.refocus_levels),
    )
    if len(levels) < 2 or list(levels) != sorted(set(levels)):
        raise UserError(
            f"--levels: {arguments.levels} are not two or more rising levels, as in 5,10,15,20."
        )
    if len(pair) != 2:
        raise UserError(
            f"--refocus-levels: {arguments.refocus_levels} are not two levels, as in 20,10."
        )
    if arguments.size < 16:
        raise UserError(f"--size: {arguments.size} is too small; 16 px is the least.")
    if not 0 < arguments.plane_gap <= 1:
        raise UserError(
            f"--plane-gap: {arguments.plane_gap} is no distance in disparity; give one above 0, at most 1."
        )
    told = {"--gamma": arguments.gamma, "--reference-width": arguments.reference_width}
    if endless := [f"{name} {value}" for name, value in told.items() if not math.isfinite(value)]:
        raise UserError(f"{endless[0]}: it is no finite number; give one above 0.")
    try:
        rendering = Rendering(arguments.gamma, arguments.layers, arguments.reference_width)
    except ValueError as error:
        raise UserError(f"--gamma, --layers, --reference-width: {error}.") from error
    return Recipe(
        arguments.size, levels, (pair[0], pair[1]), rendering, arguments.seed, arguments.plane_gap
    )


def numbers(name: str, text: str) -> tuple[float, ...]:
    """Read levels above 0, parted by commas."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{name}: {text!r} is no list of numbers; part them by commas, as in 5,10."
        ) from None
    if not all(0 < value < float("inf") for value in values):
        raise UserError(f"{name}: {text} has a level that is not above 0; level 0 is all in focus.")
    return values


def build(
    folder: Path,
    originals: Sequence[Original],
    read: Callable[[Original], tuple[Tensor, Tensor]],
    recipe: Recipe,
    chosen: dict[str, Points] | None,
    made_of: dict[str, str],
) -> None:
    """Write what is missing of a benchmark, and its manifest last.

    Raises:
        UserError: The folder holds a benchmark of other settings, or a picture cannot be used.
    """
    named = {original.scene: original for original in originals}
    settings = recipe.settings() | made_of
    pending = {
        "points_sha256": sha256_of(points_csv(chosen).encode()) if chosen else None,
        "scenes": list(named),
    }

    def make(scene: str) -> dict[str, Any]:
        image, disparity = read(named[scene])
        seed = seed_of(scene, recipe.seed)
        name = str(named[scene].path)
        points = chosen[scene] if chosen else seeded_points(disparity, seed, recipe.plane_gap, name)
        return write_scene(folder, named[scene], image, disparity, points, recipe)

    made = rows(folder / "scenes", list(named), make, settings | pending)
    if made is None:
        print(f"{folder}: this process's scenes are done; the last process writes {MANIFEST}.")
        return
    write_manifest(folder, settings, made)
    if place()[0] == 0:
        counts = ", ".join(
            f"{sum(row['source'] == source for row in made)} {source}" for source in SOURCES
        )
        print(
            f"{folder}: {len(made)} scenes ({counts}), {sum(len(row['samples']) for row in made)} samples"
        )


def write_manifest(folder: Path, settings: dict[str, Any], made: list[dict[str, Any]]) -> None:
    """Write the points and the manifest."""
    points = {row["scene"]: Points(*(tuple(point) for point in row["points"])) for row in made}
    text = points_csv(points)
    write_text(folder / "points.csv", text)
    files = {"points.csv": entry_of(text.encode())} | {
        name: entry for row in made for name, entry in row["files"].items()
    }
    manifest = {
        "format": FORMAT,
        "settings": settings,
        "scenes": [
            {name: row[name] for name in ("scene", "source", "image", "disparity")} for row in made
        ],
        "samples": [sample for row in made for sample in row["samples"]],
        "files": files,
    }
    write_json(folder / MANIFEST, manifest | {"checksum": checksum_of(manifest)})
    read_benchmark(folder, "size")


def write_page(
    folder: Path,
    originals: Sequence[Original],
    read: Callable[[Original], tuple[Tensor, Tensor]],
    plane_gap: float,
) -> None:
    """Write the page in which a person clicks the points."""
    pictures = [PagePicture(original.scene, *read(original)) for original in originals]
    write_text(folder / "points.html", points_page(pictures, plane_gap))
    print(f"{folder / 'points.html'}: open it, click, save points.csv, then give it as --points")
