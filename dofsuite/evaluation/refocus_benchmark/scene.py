"""A benchmark's scene: its cameras, the pictures that they take, and the ten samples made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dofsuite.data.manifest import sha256_of
from dofsuite.evaluation.refocus_benchmark.format import Sample, disparity_bytes, picture_bytes
from dofsuite.evaluation.refocus_benchmark.points import Point, Points, disparity_at
from dofsuite.files import write_bytes
from dofsuite.refocus.cameras import Cameras
from dofsuite.refocus.rendering import Rendering, photograph

CENTRE: Point = (0.5, 0.5)
"""Where deblurring focuses (*stated*); at level 0 nothing depends on it but a model's camera token."""


class Recipe(NamedTuple):
    """What every scene is made with."""

    size_px: int
    bokeh_levels: tuple[float, ...]
    refocus_levels: tuple[float, float]
    rendering: Rendering
    seed: int
    plane_gap: float

    def settings(self) -> dict[str, Any]:
        """Return the recipe as plain data for the manifest."""
        return {
            "size_px": self.size_px,
            "bokeh_levels": list(self.bokeh_levels),
            "refocus_levels": list(self.refocus_levels),
            "rendering": vars(self.rendering),
            "seed": self.seed,
            "plane_gap": self.plane_gap,
        }


def write_scene(
    folder: Path,
    original: Original,
    image: Tensor,
    disparity: Tensor,
    points: Points,
    recipe: Recipe,
) -> dict[str, Any]:
    """Render and write a scene, and return its part of the manifest as plain data."""
    scene = original.scene
    names = {"image": f"images/{scene}.png", "disparity": f"disparity/{scene}.png"}
    asked = cameras_of(disparity, points, recipe)
    width_px = torch.tensor([float(recipe.size_px)])
    pictures = photograph(image, disparity, width_px, list(asked.values()), recipe.rendering)
    contents = {
        names["image"]: picture_bytes(image),
        names["disparity"]: disparity_bytes(disparity),
    }
    for name, picture in zip(asked, pictures, strict=True):
        contents[f"rendered/{scene}/{name}.png"] = picture_bytes(picture)
    for name, data in contents.items():
        write_bytes(folder / name, data)
    return {
        "scene": scene,
        "source": original.source,
        **names,
        "points": [list(point) for point in points],
        "samples": [
            sample._asdict() for sample in samples_of(scene, names["image"], disparity, asked)
        ],
        "files": {name: entry_of(data) for name, data in contents.items()},
    }


def cameras_of(disparity: Tensor, points: Points, recipe: Recipe) -> dict[str, Cameras]:
    """Return the camera of every rendered picture by the picture's name."""
    pair = zip((points.first, points.second), recipe.refocus_levels, strict=True)
    asked = {
        f"refocus_{number}": camera(disparity, point, level)
        for number, (point, level) in enumerate(pair, 1)
    }
    return asked | {
        f"bokeh_{level:g}": camera(disparity, points.bokeh, level) for level in recipe.bokeh_levels
    }


def camera(disparity: Tensor, point: Point, level: float) -> Cameras:
    """Return the camera that focuses on a point, as a batch of one."""
    return Cameras(
        torch.tensor([point]), torch.tensor([disparity_at(disparity, point)]), torch.tensor([level])
    )


def samples_of(
    scene: str, image: str, disparity: Tensor, asked: dict[str, Cameras]
) -> list[Sample]:
    """Return a scene's samples: each refocus picture from the other, bokeh from the image, the image from bokeh."""
    first, second, *bokeh = (f"rendered/{scene}/{name}.png" for name in asked)
    sharp = camera(disparity, CENTRE, 0.0)
    asked = asked | {
        f"deblur_{name.removeprefix('bokeh_')}": sharp
        for name in asked
        if name.startswith("bokeh_")
    }
    tasks = ["refocus"] * 2 + ["bokeh"] * len(bokeh) + ["deblur"] * len(bokeh)
    references = [second, first, *[image] * len(bokeh), *bokeh]
    targets = [first, second, *bokeh, *[image] * len(bokeh)]
    return [
        Sample(
            key=f"{scene}/{name}",
            scene=scene,
            task=task,
            reference=reference,
            target=target,
            focus_point=tuple(taken.focus_point[0].tolist()),
            focus_disparity=float(taken.focus_disparity),
            bokeh_level=float(taken.bokeh_level),
        )
        for (name, taken), task, reference, target in zip(
            asked.items(), tasks, references, targets, strict=True
        )
    ]


def entry_of(data: bytes) -> dict[str, Any]:
    """Return a file's entry in the manifest."""
    return {"sha256": sha256_of(data), "bytes": len(data)}
