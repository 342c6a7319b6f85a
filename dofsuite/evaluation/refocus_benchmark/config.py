"""Options of `evaluate build-benchmark`."""

import math
from argparse import ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dofsuite.cli import option
from dofsuite.data.importers import PAIRS_FILE
from dofsuite.data.synthetic.names import is_synthetic
from dofsuite.depth_options import AUTO
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


def is_positive(*numbers: float) -> bool:
    return all(0 < number < math.inf for number in numbers)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What a benchmark is made of, and how it is rendered."""

    folder: Path = option(
        type=Path,
        metavar="FOLDER",
        help="images, in camera/, phone/ and ai/ or with --source; synthetic:val, whose disparity "
        "is exact; or real pairs of `data import`",
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
        "--depth",
        "--depth-maps",
        type=Path,
        metavar="DIR|auto",
        default=None,
        help="maps named by the images' stems (default: next to the images); auto: --depth-model",
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
        help=f"predict depth: {RELATIVE_DEPTH} (Depth Anything V2 Small; also without NAME), "
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
        bokeh, refocus = self.bokeh_levels, self.refocus_levels
        too_few = self.count is not None and self.count < 1
        has_maps = bool(self.depth_maps) or self.depth_kind != "disparity"
        # Mistakes, each with its sentence; a level of 0 is all in focus
        mistakes = [
            (
                len(bokeh) < 2 or list(bokeh) != sorted(set(bokeh)),
                "--levels: give two or more rising levels, as in 5,10,15,20.",
            ),
            (len(refocus) != 2, "--refocus-levels: give two levels, as in 20,10."),
            *(
                (not is_positive(*levels), f"{name}: every level must be above 0 and finite.")
                for name, levels in (("--levels", bokeh), ("--refocus-levels", refocus))
            ),
            (self.size_px < 16, f"--size: {self.size_px} is too small; 16 px is the least."),
            (too_few, f"--count: {self.count} is no number of images; it must be 1 or above."),
            (
                bool(self.depth_folder and self.depth_model),
                "--depth-model: depth comes from maps or from a model; leave out one of the two.",
            ),
            (
                self.is_synthetic and has_maps,
                f"{self.folder}: it brings its disparity; leave out --depth-maps and --depth-kind.",
            ),
            (
                not 0 < self.plane_gap <= 1,
                f"--plane-gap: {self.plane_gap} is no distance in disparity; give one above 0, at "
                "most 1.",
            ),
            *(
                (not is_positive(value), f"--{name} {value}: it must be a finite number above 0.")
                for name, value in (
                    ("gamma", self.gamma),
                    ("reference-width", self.reference_width_px),
                )
            ),
            (self.layers < 2, f"--layers: {self.layers} are too few; 2 is the least."),
        ]
        for is_made, sentence in mistakes:
            if is_made:
                raise UserError(sentence)

    @property
    def depth_folder(self) -> Path | None:
        """Where the depth maps lie, if not next to the images."""
        return None if self.depth_maps == AUTO else self.depth_maps

    @property
    def predicted_by(self) -> str | None:
        """The depth model, `NAME` or `NAME=PATH`; None: there are depth maps."""
        return self.depth_model or (RELATIVE_DEPTH if self.depth_maps == AUTO else None)

    @property
    def is_of_pairs(self) -> bool:
        """Whether the folder holds real pairs, as `data import --purpose evaluate` writes them."""
        return (self.folder / PAIRS_FILE).is_file()

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
