"""The options that every command on photographs has; light, so that `--help` needs no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dofsuite.cli import focus_point, option
from dofsuite.depth_options import DEPTH_KIND, DEPTH_MODEL, DepthKind
from dofsuite.errors import UserError

AnimationFormat = Literal["webp", "gif", "mp4"]
ANIMATION_FORMATS = ("webp", "gif", "mp4")
Point = tuple[float, float]
# The ground, from the lower edge to the horizon: the near end of a plane and its far end.
GROUND: tuple[Point, Point] = ((0.5, 1.0), (0.5, 0.4))


def point_pair(text: str) -> tuple[Point, Point]:
    """Parse `X,Y,X,Y`: the near point and the far one."""
    numbers = text.split(",")
    if len(numbers) != 4:
        raise UserError(
            f"--plane: {text!r} is not X,Y,X,Y; give the near and the far point, as in "
            "0.5,1,0.5,0.4."
        )
    return focus_point(",".join(numbers[:2])), focus_point(",".join(numbers[2:]))


@dataclass(frozen=True, kw_only=True)
class PhotosConfig:
    """What every command on photographs is told: which, focused where, blurred how much."""

    photos: tuple[Path, ...] = option(
        type=Path,
        nargs="+",
        metavar="PHOTO",
        help="JPEG, PNG, WebP, TIFF or HEIC; a folder; or example:motorcycle, with measured depth",
    )
    focus: tuple[Point, ...] = option(
        "--focus",
        type=focus_point,
        nargs="+",
        default=(),
        metavar="X,Y",
        help="the point in focus, fractions of width and height from the top left; several make a "
        "sweep",
    )
    bokeh: tuple[float, ...] = option(
        "--bokeh",
        type=float,
        nargs="+",
        default=(),
        metavar="B",
        help="blur radius in px per unit of disparity where the long side has 512 px; 4 is subtle, "
        "12 strong, 30 extreme",
    )
    # Depth
    depth: str = option(
        "--depth",
        default="auto",
        metavar="FILE|auto|plane",
        help="depth map, or a folder of maps named as the photographs; auto: Depth Anything V2 "
        "Small; plane: see --plane",
    )
    depth_kind: DepthKind | None = option("--depth-kind", **DEPTH_KIND)
    depth_model: str | None = option("--depth-model", **DEPTH_MODEL)
    depth_edges: Literal["snap", "keep"] = option(
        "--depth-edges",
        default="snap",
        choices=("snap", "keep"),
        help="snap (default): a depth map's soft steps become hard, so that nothing between two "
        "surfaces is in focus; keep: the map as it is",
    )
    plane: tuple[Point, Point] = option(
        "--plane",
        type=point_pair,
        default=GROUND,
        metavar="X,Y,X,Y",
        help="for plane: its near and its far point; default 0.5,1,0.5,0.4, the ground; above the "
        "far point all is at infinity",
    )
    # Output
    output: Path = option(
        "-o", "--output", type=Path, metavar="OUT", help="a file for one picture, else a folder"
    )
    animate: AnimationFormat | None = option(
        "--animate",
        default=None,
        choices=ANIMATION_FORMATS,
        help="a sweep also as an animation of at most 1280 px",
    )
    overwrite: bool = option(
        "--overwrite", default=False, action="store_true", help="replace files of an earlier run"
    )

    def __post_init__(self) -> None:
        for name, points in (("--focus", self.focus), ("--plane", self.plane)):
            for x, y in points:
                if not (0 <= x <= 1 and 0 <= y <= 1):
                    raise UserError(
                        f"{name}: {x:g},{y:g} lies outside; give fractions of width and height, "
                        "as in 0.3,0.6."
                    )
        for level in self.bokeh:
            if not 0 <= level <= 1000:
                raise UserError(f"--bokeh: {level:g} must be from 0 to 1000.")
