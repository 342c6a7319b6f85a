"""The options of `python -m dofsuite.lens`."""

from dataclasses import dataclass
from pathlib import Path

from dofsuite.cli import focus_point, option
from dofsuite.errors import UserError
from dofsuite.photography.animation import ANIMATION_FORMATS, AnimationFormat
from dofsuite.photography.depth_options import DEPTH_KIND, DEPTH_MODEL, DepthKind
from dofsuite.photography.full_size import METHODS, Method

Point = tuple[float, float]


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
class LensConfig:
    """Which photographs, focused where, blurred how much, by which depth."""

    photos: tuple[Path, ...] = option(
        type=Path,
        nargs="+",
        metavar="PHOTO",
        help="JPEG, PNG, WebP, TIFF or HEIC; a folder; or example:motorcycle, with measured depth",
    )
    # Where it is sharp
    focus: tuple[Point, ...] = option(
        "--focus",
        type=focus_point,
        nargs="+",
        default=(),
        metavar="X,Y",
        help="the point in focus, fractions of width and height; several make a sweep",
    )
    focus_disparity: tuple[float, ...] = option(
        "--focus-disparity",
        type=float,
        nargs="+",
        default=(),
        metavar="D",
        help="instead of --focus: disparity in focus, 0 far to 1 near",
    )
    # How much is blurred
    bokeh: tuple[float, ...] = option(
        "--bokeh",
        type=float,
        nargs="+",
        default=(),
        metavar="B",
        help="blur radius in px per unit of disparity where the long side has 512 px; 12 is strong",
    )
    f_number: tuple[float, ...] = option(
        "--f-number", type=float, nargs="+", default=(), metavar="N", help="instead of --bokeh"
    )
    focal_length_mm: float | None = option(
        "--focal-length",
        type=float,
        default=None,
        metavar="MM",
        help="for --f-number; by default the photograph's EXIF",
    )
    sensor_width_mm: float | None = option(
        "--sensor-width",
        type=float,
        default=None,
        metavar="MM",
        help="for --f-number; by default the EXIF's camera, or 36 with --focal-length",
    )
    focus_m: float | None = option(
        "--focus-distance",
        type=float,
        default=None,
        metavar="M",
        help="for --f-number with relative depth: meters to the point in focus; default: the "
        "EXIF's, or 2",
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
    plane: tuple[Point, Point] = option(
        "--plane",
        type=point_pair,
        default=((0.5, 1.0), (0.5, 0.4)),
        metavar="X,Y,X,Y",
        help="for plane: its near and its far point; default 0.5,1,0.5,0.4, the ground",
    )
    # How it is rendered
    method: Method = option(
        "--method",
        default="auto",
        choices=METHODS,
        help="auto: occlusion; above 4 megapixels layered, with occlusion at depth edges",
    )
    gamma: float | None = option(
        "--gamma",
        type=float,
        default=None,
        help="take light as value ** GAMMA; by default by the color profile's tone curve",
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
    mark_focus: bool = option(
        "--mark-focus", default=False, action="store_true", help="tint the animation where sharp"
    )
    overwrite: bool = option(
        "--overwrite", default=False, action="store_true", help="replace files of an earlier run"
    )

    def __post_init__(self) -> None:
        # One way to focus, one to blur
        if bool(self.focus) == bool(self.focus_disparity):
            raise UserError("lens: give --focus X,Y (or --focus-disparity D, not both).")
        if bool(self.bokeh) == bool(self.f_number):
            raise UserError("lens: give --bokeh B or --f-number N, one of them.")
        # Numbers in their ranges
        for x, y in (*self.focus, *self.plane):
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise UserError(f"--focus or --plane: {x:g},{y:g} lies outside; use 0 to 1.")
        for disparity in self.focus_disparity:
            if not 0 <= disparity <= 1:
                raise UserError(f"--focus-disparity: {disparity:g} must be from 0 to 1.")
        for level in self.bokeh:
            if not 0 <= level <= 1000:
                raise UserError(f"--bokeh: {level:g} must be from 0 to 1000.")
        for name, numbers in (
            ("--f-number", self.f_number),
            ("--focal-length", (self.focal_length_mm,)),
            ("--sensor-width", (self.sensor_width_mm,)),
            ("--focus-distance", (self.focus_m,)),
            ("--gamma", (self.gamma,)),
        ):
            for number in numbers:
                if number is not None and not 0 < number < float("inf"):
                    raise UserError(f"{name}: {number:g} must be above 0.")
