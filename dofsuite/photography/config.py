"""The options of `python -m dofsuite.lens`."""

from dataclasses import dataclass

from dofsuite.cli import option
from dofsuite.errors import UserError
from dofsuite.photography.full_size import METHODS, Method
from dofsuite.photography.photos_config import PhotosConfig


@dataclass(frozen=True, kw_only=True)
class LensConfig(PhotosConfig):
    """The options of a lens that needs no model."""

    # Where it is sharp
    focus_disparity: tuple[float, ...] = option(
        "--focus-disparity",
        type=float,
        nargs="+",
        default=(),
        metavar="D",
        help="instead of --focus: disparity in focus, 0 far to 1 near",
    )
    # How much is blurred
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
    mark_focus: bool = option(
        "--mark-focus", default=False, action="store_true", help="tint the animation where sharp"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # One way to focus, one to blur
        if bool(self.focus) == bool(self.focus_disparity):
            raise UserError("lens: give --focus X,Y (or --focus-disparity D, not both).")
        if bool(self.bokeh) == bool(self.f_number):
            raise UserError("lens: give --bokeh B or --f-number N, one of them.")
        # Numbers in their ranges
        for disparity in self.focus_disparity:
            if not 0 <= disparity <= 1:
                raise UserError(f"--focus-disparity: {disparity:g} must be from 0 to 1.")
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
