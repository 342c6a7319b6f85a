"""The focus points of a benchmark's scenes: by a seeded rule, or from a CSV made by a person.

A CSV has a line a scene: `scene,x1,y1,x2,y2` and, for another point for adding bokeh, `x3,y3`.
Points are fractions of width and height of the benchmark's square image, from the top left.

A person clicks them in a page, one HTML file that contains images, depth and script; its policy
forbids it any request. What was clicked is kept in the browser until the CSV is saved.
"""

import base64
import csv
import io
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d

from dofsuite.diffusion import draw_uniform
from dofsuite.errors import UserError
from dofsuite.evaluation.report import data_uri
from dofsuite.files import read_bytes
from dofsuite.images import thumbnail, to_pil
from dofsuite.refocus.cameras import choose, point_of, prefer

Point = tuple[float, float]
COLUMNS = ("x1", "y1", "x2", "y2", "x3", "y3")
FLAT_WINDOW_PX = 5
# The seeded rule avoids depth edges: around its points disparity varies no more (*ours*).
FLAT_WITHIN = 0.05
# The page shows images no larger.
MAX_PX = 512
# Side of the depth map that the page's script reads distances from.
DEPTH_PX = 128


# The points of a scene: the refocus pair, and the one for adding bokeh.
class Points(NamedTuple):
    first: Point
    second: Point
    bokeh: Point


def seeded_points(
    disparity: Float[Tensor, "1 1 h w"], seed: int, plane_gap: float, name: str
) -> Points:
    """Draw a scene's points: a pair on different planes, in either order; bokeh uses the first.

    Paper: a person picks them. Here: the first is drawn among the pixels that have a partner at
    least `plane_gap` away in disparity, the second among its partners, both away from depth edges
    where there are such pixels.

    Args:
        disparity: In [0, 1].
        seed: Of this scene; nothing else is random.
        plane_gap: Least distance of the two planes in disparity.
        name: The image's, for the error.

    Raises:
        UserError: No two pixels are that far apart.
    """
    height, width = disparity.shape[-2:]
    values = disparity.flatten(1)  # [1, h * w]
    uniforms = draw_uniform(seed, [0], "points", 2)

    # First point: a pixel with a partner on another plane, away from depth edges
    half = FLAT_WINDOW_PX // 2
    largest = max_pool2d(disparity, FLAT_WINDOW_PX, stride=1, padding=half)
    least = -max_pool2d(-disparity, FLAT_WINDOW_PX, stride=1, padding=half)
    flat = (largest - least <= FLAT_WITHIN).flatten(1)
    has_partner = partnered(values, values[flat], plane_gap)
    if not bool(has_partner.any()):
        raise UserError(
            f"{name}: no two of its planes are {plane_gap:g} apart: leave it out or lower "
            "--plane-gap."
        )
    first = choose(prefer(has_partner, flat), uniforms[:, 0])

    # Second point: one of its partners
    far = (values - values.gather(1, first[:, None])).abs() >= plane_gap
    second = choose(prefer(far, flat), uniforms[:, 1])
    one, other = (tuple(point_of(pixel, height, width)[0].tolist()) for pixel in (first, second))
    return Points(one, other, one)


def partnered(
    values: Float[Tensor, "1 n"], flat_values: Float[Tensor, "m"], plane_gap: float
) -> Bool[Tensor, "1 n"]:
    # The pixels that have another at least `plane_gap` away, preferably off depth edges
    for partners in (flat_values, values):
        if partners.numel():
            nearer, farther = partners.max() - plane_gap, partners.min() + plane_gap
            found = (values >= farther) | (values <= nearer)
            if bool(found.any()):
                return found
    return torch.zeros_like(values, dtype=torch.bool)


def disparity_at(disparity: Float[Tensor, "1 1 h w"], point: Point) -> float:
    height, width = disparity.shape[-2:]
    column = min(int(point[0] * width), width - 1)
    row = min(int(point[1] * height), height - 1)
    return float(disparity[0, 0, row, column])


def read_points(path: Path, scenes: Sequence[str]) -> dict[str, Points]:
    """Read the points of all scenes from a CSV.

    Raises:
        UserError: The file cannot be read, a column or a scene is missing, or a point is none; the
            line is named.
    """
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text))
    found = reader.fieldnames or ()
    if missing := [name for name in ("scene", *COLUMNS[:4]) if name not in found]:
        raise UserError(
            f"{path}: column {missing[0]} is missing; a line is scene,x1,y1,x2,y2 and perhaps "
            "x3,y3."
        )
    points = {line["scene"]: points_of(line, f"{path}: line {reader.line_num}") for line in reader}

    # Every scene needs a line
    if without := [scene for scene in scenes if scene not in points]:
        raise UserError(
            f"{path}: scene {without[0]} has no line ({len(without)} of {len(scenes)} have none); "
            "add it."
        )
    return {scene: points[scene] for scene in scenes}


def points_of(line: dict[str, str], where: str) -> Points:
    # Without a third point, bokeh is added around the first
    names = COLUMNS if line.get("x3") or line.get("y3") else (*COLUMNS[:4], *COLUMNS[:2])
    numbers = [fraction(line.get(name) or "", name, where) for name in names]
    first, second, bokeh = zip(numbers[::2], numbers[1::2], strict=True)
    return Points(first, second, bokeh)


def fraction(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UserError(
            f"{where}: {name}: {text!r} is no number; give a fraction between 0 and 1."
        ) from None
    if not 0 <= number <= 1:
        raise UserError(
            f"{where}: {name}: {text} lies outside the image; give a fraction between 0 and 1."
        )
    return number


def points_csv(points: dict[str, Points]) -> str:
    lines = [",".join(("scene", *COLUMNS))]
    for scene, chosen in points.items():
        lines.append(",".join((scene, *(repr(value) for point in chosen for value in point))))
    return "\n".join(lines) + "\n"


class PageScene(NamedTuple):
    """A scene's image [1, 3, h, w] and disparity [1, 1, h, w], both in [0, 1]."""

    scene: str
    image: Tensor
    disparity: Tensor


def points_page(scenes: Sequence[PageScene], plane_gap: float) -> str:
    """Return the page.

    Args:
        scenes: In the order of the CSV.
        plane_gap: Below this distance in disparity the page says that two points are rather close.
    """
    data = json.dumps([scene_data(scene) for scene in scenes]).replace("<", "\\u003c")
    file = files("dofsuite.evaluation.refocus_benchmark") / "focus_points.html"
    page = file.read_text(encoding="utf-8").replace("__GAP__", json.dumps(plane_gap))
    return page.replace("__COLUMNS__", json.dumps(COLUMNS)).replace("__SCENES__", data)


def scene_data(scene: PageScene) -> dict[str, object]:
    depth = thumbnail(scene.disparity[0], MAX_PX)
    small = to_pil(depth).resize((DEPTH_PX, DEPTH_PX), Image.Resampling.NEAREST)
    return {
        "scene": scene.scene,
        "image": data_uri(thumbnail(scene.image[0], MAX_PX), "JPEG"),
        "depth": data_uri(depth, "PNG"),
        "depth_side": DEPTH_PX,
        "depth_bytes": base64.b64encode(small.tobytes()).decode(),
    }
