"""Options of `evaluate build-benchmark`."""

import math
from argparse import ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dofsuite.cli import option
from dofsuite.data.synthetic.names import is_synthetic
from dofsuite.errors import UserError

# The paper's: 60 photographs by cameras, 30 by phones, 60 AI-generated images.
SOURCES = ("camera", "phone", "ai")
# Model that `--depth-model` alone stands for; its output is disparity.
RELATIVE_DEPTH = "RelativeDepth"
# Models whose output is depth (larger is farther).
METRIC_DEPTH = ("DepthAnything", "Metric3D", "SmallDepth")


def levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is no list of numbers; separate them by commas, as in 5,10"
        ) from None


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What a benchmark is made of, and how it is rendered."""

    folder: Path = option(
        type=Path,
        metavar="FOLDER",
        help="images, in camera/, phone/ and ai/ or with --source; or synthetic:val, whose "
        "disparity is exact",
    )
    output: Path = option("-o", "--output", type=Path, metavar="DIR", help="the benchmark")
    count: int | None = option(
        "--count", type=int, metavar="N", default=None, help="the first N by name; default: all"
    )
    source: str | None = option(
        "--source",
        choices=SOURCES,
        default=None,
        help="tag of images that lie in none of the three folders",
    )
    depth_maps: Path | None = option(
        "--depth-maps",
        type=Path,
        metavar="DIR",
        default=None,
        help="maps named by the images' stems (default: next to the images)",
    )
    depth_kind: Literal["disparity", "depth"] = option(
        "--depth-kind",
        choices=("disparity", "depth"),
        default="disparity",
        help="larger is nearer, or farther",
    )
    depth_model: str | None = option(
        "--depth-model",
        nargs="?",
        const=RELATIVE_DEPTH,
        metavar="NAME[=PATH]",
        default=None,
        help=f"predict depth: {RELATIVE_DEPTH} (Depth Anything V2; also without NAME), "
        + ", ".join(METRIC_DEPTH),
    )
    points: Path | None = option(
        "--points",
        type=Path,
        metavar="CSV",
        default=None,
        help="chosen by a person (default: by a seeded rule)",
    )
    points_page: bool = option(
        "--points-page",
        action="store_true",
        default=False,
        help="write DIR/points.html, in which one clicks them, and stop",
    )
    size_px: int = option(
        "--size", type=int, default=512, help="side of the images in px (stated: 512)"
    )
    bokeh_levels: tuple[float, ...] = option(
        "--levels",
        type=levels,
        metavar="B,B,...",
        default=(5.0, 10.0, 15.0, 20.0),
        help="of the add-bokeh task, rising; default 5,10,15,20 (ours)",
    )
    refocus_levels: tuple[float, ...] = option(
        "--refocus-levels",
        type=levels,
        metavar="B,B",
        default=(20.0, 10.0),
        help="of the two refocus images; default 20,10 (ours)",
    )
    gamma: float = option(
        "--gamma", type=float, default=4.0, help="display value to light (inferred: BokehMe's)"
    )
    layers: int = option("--layers", type=int, default=61, help="of the renderer, over disparity")
    reference_width_px: float = option(
        "--reference-width",
        type=float,
        default=512.0,
        help="width at which a level is px of radius",
    )
    plane_gap: float = option(
        "--plane-gap",
        type=float,
        default=0.25,
        help="least disparity between the seeded points (ours)",
    )
    seed: int = option("--seed", type=int, default=0, help="of the seeded points")

    def __post_init__(self) -> None:
        # Levels; 0 is all in focus
        rising = self.bokeh_levels == tuple(sorted(set(self.bokeh_levels)))
        if len(self.bokeh_levels) < 2 or not rising:
            raise UserError("--levels: give two or more rising levels, as in 5,10,15,20.")
        if len(self.refocus_levels) != 2:
            raise UserError("--refocus-levels: give two levels, as in 20,10.")
        for option_name, values in (
            ("--levels", self.bokeh_levels),
            ("--refocus-levels", self.refocus_levels),
        ):
            if not all(0 < value < math.inf for value in values):
                raise UserError(f"{option_name}: every level must be above 0 and finite.")

        # Images and their depth
        if self.size_px < 16:
            raise UserError(f"--size: {self.size_px} is too small; 16 px is the least.")
        if self.count is not None and self.count < 1:
            raise UserError(f"--count: {self.count} is no number of images; it must be 1 or above.")
        if self.depth_maps and self.depth_model:
            raise UserError(
                "--depth-model: depth comes from maps or from a model; leave out one of the two."
            )
        if self.is_synthetic and (self.depth_maps or self.depth_kind != "disparity"):
            raise UserError(
                f"{self.folder}: it brings its disparity; leave out --depth-maps and --depth-kind."
            )
        if not 0 < self.plane_gap <= 1:
            raise UserError(
                f"--plane-gap: {self.plane_gap} is no distance in disparity; give one above 0, at "
                "most 1."
            )

        # Renderer
        for name, value in (("gamma", self.gamma), ("reference-width", self.reference_width_px)):
            if not 0 < value < math.inf:
                raise UserError(f"--{name} {value}: it must be a finite number above 0.")
        if self.layers < 2:
            raise UserError(f"--layers: {self.layers} are too few; 2 is the least.")

    @property
    def is_synthetic(self) -> bool:
        return is_synthetic(self.folder)

    def settings(self) -> dict[str, Any]:
        """Return what every scene is rendered with, as the manifest holds it."""
        return {
            "size_px": self.size_px,
            "bokeh_levels": self.bokeh_levels,
            "refocus_levels": self.refocus_levels,
            "rendering": {
                "gamma": self.gamma,
                "layers": self.layers,
                "reference_width_px": self.reference_width_px,
            },
            "seed": self.seed,
            "plane_gap": self.plane_gap,
        }
