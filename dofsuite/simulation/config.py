"""The options of `python -m dofsuite.simulate`."""

import math
from argparse import ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dofsuite.cli import option
from dofsuite.depth_options import AUTO, DEPTH_MODEL
from dofsuite.errors import UserError

# DiffCamera's grid (*stated*): 0 to 1 in steps of 0.05, and 1 to 20.
PLANES = tuple(round(0.05 * step, 2) for step in range(21))
LEVELS = tuple(float(level) for level in range(1, 21))
FileFormat = Literal["jpeg", "png", "latents"]


def numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is no list of numbers; separate them by commas, as in 0,0.5,1"
        ) from None


def size(text: str) -> int | None:
    if text == "full":
        return None
    if text.isdecimal():
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no size; give px, as in 512, or full")


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Which images, which variants of them, and how they are stored."""

    source: Path = option(type=Path, metavar="DIR|SHARDS", help="images with depth maps, or shards")
    output: Path = option("-o", "--output", type=Path, metavar="DIR", help="a folder an image")
    count: int | None = option(
        "--count", type=int, metavar="N", default=None, help="the first N by name; default: all"
    )
    # The grid
    planes: tuple[float, ...] = option(
        "--planes",
        type=numbers,
        metavar="D,D,...",
        default=PLANES,
        help="disparities in focus, 0 far to 1 near; default: 0 to 1 in steps of 0.05 (stated)",
    )
    levels: tuple[float, ...] = option(
        "--levels",
        type=numbers,
        metavar="B,B,...",
        default=LEVELS,
        help="bokeh levels; default: 1 to 20 (stated)",
    )
    # Files
    file_format: FileFormat = option(
        "--format", choices=("jpeg", "png", "latents"), default="jpeg", help="default: %(default)s"
    )
    quality: int = option(
        "--quality", type=int, default=95, help="of JPEG, colors at full size; default: %(default)s"
    )
    vae: str | None = option(
        "--vae",
        metavar="PATH_OR_ID",
        default=None,
        help="for latents: a VAE, or a model in diffusers layout, as a folder or on the hub",
    )
    size_px: int | None = option(
        "--size",
        type=size,
        metavar="PX|full",
        default=512,
        help="side of the center square that training sees (stated: 512); full: the whole image",
    )
    # Depth
    depth: Path | None = option(
        "--depth",
        type=Path,
        metavar="DIR|auto",
        default=None,
        help="depth maps with the same names as the images; auto: by a depth model",
    )
    depth_model: str | None = option("--depth-model", **DEPTH_MODEL)
    depth_kind: Literal["disparity", "depth"] | None = option(
        "--depth-kind",
        choices=("disparity", "depth"),
        default=None,
        help="of a folder's maps: disparity (larger is nearer) or depth (farther)",
    )
    # Rendering
    gamma: float = option(
        "--gamma", type=float, default=4.0, help="display value to light (inferred: BokehMe's)"
    )
    layers: int = option(
        "--layers", type=int, default=81, help="over disparity; more are more exact; %(default)s"
    )
    reference_width_px: float = option(
        "--reference-width",
        type=float,
        default=512.0,
        help="long side at which a level is px of radius",
    )
    dry_run: bool = option(
        "--dry-run", action="store_true", default=False, help="show blur and disk, and stop"
    )

    def __post_init__(self) -> None:
        # Mistakes, each with its sentence
        mistakes = [
            (self._not_rising(self.planes), "--planes: give rising numbers, as in 0,0.5,1."),
            (self._not_rising(self.levels), "--levels: give rising numbers, as in 5,10,20."),
            (
                not all(0 <= plane <= 1 for plane in self.planes),
                "--planes: a focal plane is a disparity from 0 (far) to 1 (near).",
            ),
            (
                not all(0 < level < math.inf for level in self.levels),
                "--levels: a level must be above 0; the image in focus everywhere is always there.",
            ),
            (not 1 <= self.quality <= 100, "--quality: a number from 1 to 100 is needed."),
            (
                (self.file_format == "latents") != bool(self.vae),
                "--vae: --format latents needs the VAE that encodes them, other formats none.",
            ),
            (
                self.size_px is not None and self.size_px < 16,
                "--size: 16 px are the least.",
            ),
            (self.count is not None and self.count < 1, "--count: at least 1 is needed."),
            (not 0 < self.gamma < math.inf, "--gamma: a number above 0 is needed."),
            (self.layers < 2, "--layers: at least 2 are needed."),
            (
                not 0 < self.reference_width_px < math.inf,
                "--reference-width: a number above 0 is needed.",
            ),
        ]
        # The first is said
        for is_wrong, sentence in mistakes:
            if is_wrong:
                raise UserError(sentence)

    @staticmethod
    def _not_rising(values: tuple[float, ...]) -> bool:
        return not values or list(values) != sorted(set(values))

    @property
    def is_depth_predicted(self) -> bool:
        return self.depth == AUTO

    @property
    def variants(self) -> int:
        """Files of one image: the grid, and the image in focus everywhere."""
        return len(self.planes) * len(self.levels) + 1
