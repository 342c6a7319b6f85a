"""A benchmark's scene: its cameras, the images rendered with them, and its ten samples."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dofsuite.data.manifest import sha256_of
from dofsuite.evaluation.refocus_benchmark.format import (
    Sample,
    Task,
    disparity_png,
)
from dofsuite.evaluation.refocus_benchmark.points import Point, Points, disparity_at
from dofsuite.evaluation.refocus_benchmark.sources import Original
from dofsuite.files import write_bytes
from dofsuite.images import encode_png
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.rendering import Rendering, photograph

# Where deblurring focuses (*stated*); at level 0 it changes nothing but a model's camera token.
CENTER: Point = (0.5, 0.5)


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
    for name, photo in zip(cameras, rendered, strict=True):
        contents[f"rendered/{scene}/{name}.png"] = encode_png(photo[0])
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
    for level in settings["bokeh_levels"]:
        cameras[f"bokeh_{level:g}"] = camera(disparity, points.bokeh, level)
    return cameras


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


def entry_of(data: bytes) -> dict[str, Any]:
    return {"sha256": sha256_of(data), "bytes": len(data)}
