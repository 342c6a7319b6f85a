"""`build-benchmark`: DiffCamera's refocus benchmark of any all-in-focus images (section 4.1).

    python -m dofsuite.evaluate build-benchmark photos -o benchmarks/refocus --depth-model
    python -m dofsuite.evaluate build-benchmark synthetic:val --count 6 -o benchmarks/val --size 64

Each image gives ten samples: 2 refocus (one pair of points with two levels, in both directions), 4
add-bokeh (one point, four levels) and 4 deblur (the add-bokeh samples reversed: level 0, focus at
the center).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from dofsuite.data.manifest import sha256_of
from dofsuite.evaluation.job import compute_rows, rank_and_world_size, seed_of
from dofsuite.evaluation.refocus_benchmark.config import SOURCES, BenchmarkConfig
from dofsuite.evaluation.refocus_benchmark.format import (
    FORMAT,
    MANIFEST,
    SceneFiles,
    checksum_of,
    read_benchmark,
)
from dofsuite.evaluation.refocus_benchmark.points import (
    Points,
    points_csv,
    read_points,
    seeded_points,
)
from dofsuite.evaluation.refocus_benchmark.points_page import PageScene, points_page
from dofsuite.evaluation.refocus_benchmark.scene import entry_of, write_scene
from dofsuite.evaluation.refocus_benchmark.sources import (
    Original,
    depth_model,
    find_originals,
    hash_originals,
    read_original,
    synthetic_originals,
)
from dofsuite.files import write_json, write_text

# Original -> image [1, 3, s, s] and disparity [1, 1, s, s], both in [0, 1].
Reader = Callable[[Original], tuple[Tensor, Tensor]]


def run(config: BenchmarkConfig) -> None:
    # Images, and how one is read together with its disparity
    if config.is_synthetic:
        originals = synthetic_originals(
            str(config.folder), config.count, config.source, config.output
        )
    else:
        originals = find_originals(config.folder, config.source)[: config.count]
    model = depth_model(config.depth_model) if config.depth_model else None
    read = partial(
        read_original,
        size_px=config.size_px,
        depth_folder=config.depth_maps,
        depth_kind=config.depth_kind,
        model=model,
    )
    if config.points_page:
        pages = [PageScene(original.scene, *read(original)) for original in originals]
        file = config.output / "points.html"
        write_text(file, points_page(pages, config.plane_gap))
        print(f"{file}: open it, click, save points.csv, then give it as --points")
        return

    # Everything that the rendered files depend on
    scenes = [original.scene for original in originals]
    points = read_points(config.points, scenes) if config.points else None
    settings = config.settings() | {
        "points": "by a person" if points else "seeded",
        "depth": config.depth_model or f"maps of {config.depth_kind}",
        "originals_sha256": hash_originals(originals, config.depth_maps, model is not None),
    }
    build(config, originals, read, points, settings)


def build(
    config: BenchmarkConfig,
    originals: Sequence[Original],
    read: Reader,
    points: dict[str, Points] | None,
    settings: dict[str, Any],
) -> None:
    folder, by_scene = config.output, {original.scene: original for original in originals}

    def compute(scene: str) -> dict[str, Any]:
        original = by_scene[scene]
        image, disparity = read(original)
        seed, name = seed_of(scene, config.seed), str(original.path)
        chosen = points[scene] if points else seeded_points(disparity, seed, config.plane_gap, name)
        return write_scene(folder, original, image, disparity, chosen, config.settings())

    # This process's share of the scenes
    inputs = settings | {
        "points_sha256": sha256_of(points_csv(points).encode()) if points else None,
        "scenes": list(by_scene),
    }
    rows = compute_rows(folder / "scenes", list(by_scene), compute, inputs)
    if rows is None:
        print(f"{folder}: this process's scenes are done; the last process writes {MANIFEST}.")
        return

    # The manifest, by every process that finds all scenes there: the same bytes
    write_manifest(folder, settings, rows)
    if rank_and_world_size()[0] == 0:
        tags = [row["source"] for row in rows]
        counts = ", ".join(f"{tags.count(source)} {source}" for source in SOURCES)
        samples = sum(len(row["samples"]) for row in rows)
        print(f"{folder}: {len(rows)} scenes ({counts}), {samples} samples")


def write_manifest(folder: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    points = {row["scene"]: Points(*(tuple(point) for point in row["points"])) for row in rows}
    text = points_csv(points)
    write_text(folder / "points.csv", text)

    # Files with their checksums
    files = {"points.csv": entry_of(text.encode())}
    for row in rows:
        files |= row["files"]
    manifest = {
        "format": FORMAT,
        "settings": settings,
        "scenes": [{name: row[name] for name in SceneFiles._fields} for row in rows],
        "samples": [sample for row in rows for sample in row["samples"]],
        "files": files,
    }
    write_json(folder / MANIFEST, manifest | {"checksum": checksum_of(manifest)})
    read_benchmark(folder, "size")
