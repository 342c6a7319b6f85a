"""The options of `python -m dofsuite.lens`."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from dofsuite.cli import option
from dofsuite.errors import UserError
from dofsuite.photography.photos_config import PhotosConfig

if TYPE_CHECKING:
    from dofsuite.optics import Aperture

Method = Literal["auto", "occlusion", "layered", "gather", "exact"]


@dataclass(frozen=True, kw_only=True)
class LensConfig(PhotosConfig):
    """The options of a lens that needs no model."""

    # Made sharp first
    deblur: str | None = option(
        "--deblur",
        default=None,
        metavar="packaged|DIR",
        help="first restore what is out of focus, by the small network that comes with dofsuite or "
        "one that you trained (experiments/pretraining/small_deblur.yaml): its export; without "
        "--focus and --bokeh, the restored photograph is written",
    )
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
    # The aperture's shape
    blades: int = option(
        "--blades",
        type=int,
        default=0,
        metavar="N",
        help="an aperture of N straight blades, so that highlights are polygons; default: round",
    )
    blade_rotation_deg: float = option(
        "--blade-rotation",
        type=float,
        default=0.0,
        metavar="DEG",
        help="turn the polygon clockwise; by default one corner points upwards",
    )
    cat_eye: float = option(
        "--cat-eye",
        type=float,
        default=0.0,
        metavar="S",
        help="clip highlights towards the corners to a cat's eye: 0 none, 0.5 strong, below 1",
    )
    # How it is rendered
    method: Method = option(
        "--method",
        default="auto",
        choices=get_args(Method),
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
        if not self.only_deblurs:
            self._check_lens()
        elif self.animate:
            raise UserError(
                "--animate: one picture does not move; give several --bokeh or --focus."
            )

    @property
    def only_deblurs(self) -> bool:
        """Whether the photograph is restored and not blurred anew."""
        focus, blur = self.focus or self.focus_disparity, self.bokeh or self.f_number
        return self.deblur is not None and not (focus or blur)

    def _check_lens(self) -> None:
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
        self._check_aperture()

    def _check_aperture(self) -> None:
        if self.blades < 0 or self.blades in (1, 2):
            raise UserError(f"--blades: {self.blades} must be at least 3, or 0 for round.")
        if not math.isfinite(self.blade_rotation_deg):
            raise UserError(f"--blade-rotation: {self.blade_rotation_deg:g} must be degrees.")
        if self.blade_rotation_deg and not self.blades:
            raise UserError("--blade-rotation: a round aperture has none; add --blades N.")
        if not 0 <= self.cat_eye < 1:
            raise UserError(f"--cat-eye: {self.cat_eye:g} must be at least 0 and below 1.")
        if self.method == "gather" and not self.aperture.is_round:
            raise UserError(
                "--method gather: it has a round aperture only; leave --blades and --cat-eye out, "
                "or use occlusion, layered or exact."
            )

    @property
    def aperture(self) -> "Aperture":
        from dofsuite.optics import Aperture

        return Aperture(self.blades, self.blade_rotation_deg, self.cat_eye)
