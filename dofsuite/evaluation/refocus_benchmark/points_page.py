"""A page on which a person clicks the focus points of a benchmark's images and saves them as a CSV.

One HTML file that contains images, depth and script; its policy forbids it any request. What was
clicked is kept in the browser until the CSV is saved.
"""

import base64
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from dofsuite.evaluation.refocus_benchmark.points import COLUMNS
from dofsuite.evaluation.report import data_uri
from dofsuite.images import thumbnail, to_pil

# Images are shown no larger.
MAX_PX = 512
# Side of the depth map that the page's script reads distances from.
DEPTH_PX = 128


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
        "depth": data_uri(depth),
        "depth_side": DEPTH_PX,
        "depth_bytes": base64.b64encode(small.tobytes()).decode(),
    }
