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

import torch
from torch import Tensor

from dofsuite.data.manifest import sha256_of
from dofsuite.evaluation.job import compute_rows, rank_and_world_size, seed_of
from dofsuite.evaluation.refocus_benchmark.config import SOURCES, BenchmarkConfig
from dofsuite.evaluation.refocus_benchmark.format import (
    MANIFEST,
    Sample,
    Task,
    disparity_png,
    entry_of,
    write_manifest,
)
from dofsuite.evaluation.refocus_benchmark.points import (
    PageScene,
    Point,
    Points,
    disparity_at,
    points_csv,
    points_page,
    read_points,
    seeded_points,
)
from dofsuite.evaluation.refocus_benchmark.real_pairs import build_from_pairs
from dofsuite.evaluation.refocus_benchmark.samples_csv import write_samples
from dofsuite.evaluation.refocus_benchmark.sources import (
    Original,
    depth_model,
    find_originals,
    hash_originals,
    read_original,
    synthetic_originals,
)
from dofsuite.files import write_bytes, write_text
from dofsuite.images import encode_png
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.rendering import Rendering, photograph

# Where deblurring focuses (*stated*); at level 0 it changes nothing but a model's camera token.
CENTER: Point = (0.5, 0.5)


def run(config: BenchmarkConfig) -> None:
    if config.is_of_pairs:
        build_from_pairs(config)
        return
    # Images, and how one is read together with its disparity
    if config.is_synthetic:
        originals = synthetic_originals(
            str(config.folder), config.count, config.source, config.output
        )
    else:
        originals = find_originals(config.folder, config.source)[: config.count]
    model = depth_model(config.predicted_by) if config.predicted_by else None
    read = partial(
        read_original,
        size_px=config.size_px,
        depth_folder=config.depth_folder,
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
        "depth": config.predicted_by or f"maps of {config.depth_kind}",
        "originals_sha256": hash_originals(originals, config.depth_folder, model is not None),
    }
    build(config, originals, read, points, settings)


def build(
    config: BenchmarkConfig,
    originals: Sequence[Original],
    read: Callable[[Original], tuple[Tensor, Tensor]],
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
    text = points_csv({row["scene"]: Points(*map(tuple, row["points"])) for row in rows})
    write_samples(folder, write_manifest(folder, settings, rows, text).samples)
    if rank_and_world_size()[0] == 0:
        tags = [row["source"] for row in rows]
        counts = ", ".join(f"{tags.count(source)} {source}" for source in SOURCES)
        samples = sum(len(row["samples"]) for row in rows)
        print(f"{folder}: {len(rows)} scenes ({counts}), {samples} samples")


def write_scene(
    folder: Path,
    original: Original,
    image: Tensor,
    disparity: Tensor,
    points: Points,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Render and write a scene, and return its part of the manifest as plain data.

    Args:
        folder: Of the benchmark.
        original: Whose scene it is.
        image: [1, 3, s, s] in [0, 1], all in focus.
        disparity: [1, 1, s, s] in [0, 1].
        points: Where the cameras focus.
        settings: As in the manifest (`BenchmarkConfig.settings`).
    """
    # Render with every camera; the layers' spectra are shared
    scene = original.scene
    cameras = cameras_of(disparity, points, settings)
    width_px = torch.tensor([float(settings["size_px"])])
    rendering = Rendering(**settings["rendering"])
    rendered = photograph(image, disparity, width_px, list(cameras.values()), rendering)

    # Write image, disparity and rendered images
    names = {"image": f"images/{scene}.png", "disparity": f"disparity/{scene}.png"}
    contents = {names["image"]: encode_png(image[0]), names["disparity"]: disparity_png(disparity)}
    contents |= {
        f"rendered/{scene}/{name}.png": encode_png(photo[0])
        for name, photo in zip(cameras, rendered, strict=True)
    }
    for name, data in contents.items():
        write_bytes(folder / name, data)

    # Its part of the manifest
    return {
        "scene": scene,
        "source": original.source,
        **names,
        "points": [list(point) for point in points],
        "samples": [
            sample._asdict() for sample in samples_of(scene, names["image"], disparity, cameras)
        ],
        "files": {name: entry_of(data) for name, data in contents.items()},
    }


def cameras_of(disparity: Tensor, points: Points, settings: dict[str, Any]) -> dict[str, Cameras]:
    pair = zip((points.first, points.second), settings["refocus_levels"], strict=True)
    cameras = {
        f"refocus_{number}": camera(disparity, point, level)
        for number, (point, level) in enumerate(pair, 1)
    }
    return cameras | {
        f"bokeh_{level:g}": camera(disparity, points.bokeh, level)
        for level in settings["bokeh_levels"]
    }


def camera(disparity: Tensor, point: Point, level: float) -> Cameras:
    plane = torch.tensor([disparity_at(disparity, point)])
    return Cameras(torch.tensor([point]), plane, torch.tensor([level]))


def samples_of(
    scene: str, image: str, disparity: Tensor, cameras: dict[str, Cameras]
) -> list[Sample]:
    # Each refocus image from the other, bokeh from the all-in-focus image, and that from each bokeh
    def sample(task: Task, name: str, reference: str, target: str, taken: Cameras) -> Sample:
        return Sample(
            key=f"{scene}/{name}",
            scene=scene,
            task=task,
            reference=reference,
            target=target,
            focus_point=tuple(taken.focus_point[0].tolist()),
            focus_disparity=float(taken.focus_disparity),
            bokeh_level=float(taken.bokeh_level),
        )

    # The two refocus images, then the bokeh sweep
    files = {name: f"rendered/{scene}/{name}.png" for name in cameras}
    pair, sweep = list(files)[:2], list(files)[2:]
    sharp = camera(disparity, CENTER, 0.0)

    # 2 refocus, n bokeh, n deblur samples
    samples = [
        sample("refocus", name, files[other], files[name], cameras[name])
        for name, other in zip(pair, reversed(pair), strict=True)
    ]
    samples += [sample("bokeh", name, image, files[name], cameras[name]) for name in sweep]
    return samples + [
        sample("deblur", name.replace("bokeh_", "deblur_"), files[name], image, sharp)
        for name in sweep
    ]
