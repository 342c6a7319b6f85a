"""Refocus a photograph.

python -m dofsuite.refocus PHOTO --focus X,Y --bokeh B -o OUT [--depth MAP] [--model RUN_OR_EXPORT]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from dofsuite.cli import Parser, add_options, config_from, option, run_command_line
from dofsuite.errors import UserError
from dofsuite.files import read_bytes

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def focus_point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--focus: {text!r} is not X,Y; give fractions of width and height, as in 0.3,0.6."
        ) from None
    return x, y


@dataclass(frozen=True, kw_only=True)
class RefocusConfig:
    """The command line's options."""

    photo: Path = option(type=Path, help="JPEG, PNG or WebP")
    focus: tuple[float, float] = option(
        "--focus",
        type=focus_point,
        metavar="X,Y",
        help="fractions of width and height from the top left",
    )
    bokeh: float = option("--bokeh", type=float, help="bokeh level; 0 is all in focus")
    depth: Path | None = option(
        "--depth",
        default=None,
        type=Path,
        help="depth map of the same size (gray PNG or .npy); optional",
    )
    depth_kind: Literal["disparity", "depth"] = option(
        "--depth-kind",
        default="disparity",
        choices=("disparity", "depth"),
        help="whether larger values are nearer or farther",
    )
    model: Path = option(
        "--model", default=Path("runs/quickstart"), type=Path, help="a run, or its export"
    )
    steps: int | None = option(
        "--steps", default=None, type=int, help="Euler steps; by default the export's"
    )
    seed: int = option("--seed", default=0, type=int, help="of the noise")
    output: Path = option("-o", "--output", type=Path, metavar="OUT", help="PNG, JPEG or WebP")

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise UserError(f"--seed: {self.seed} is no seed; it must be from 0 to 2**64 - 1.")
        if self.output.suffix.lower() not in FORMATS:
            raise UserError(f"{self.output}: --output: end the name in {', '.join(FORMATS)}.")


def parser() -> Parser:
    parser = Parser("refocus", "Refocus a photograph.")
    add_options(parser, RefocusConfig)
    return parser


def read_disparity(path: Path, kind: str, size: tuple[int, int]) -> Tensor:
    """Read a depth map as disparity [1, 1, h, w] in [0, 1]; `size` is the photograph's (h, w)."""
    import torch

    from dofsuite.data.decode import DECODERS, disparity_from_depth_map

    content = read_bytes(path, "--depth")
    extension = f"depth.{path.suffix.lower().lstrip('.')}"
    if extension not in DECODERS:
        raise UserError(f"{path}: --depth: a depth map is a gray PNG, JPEG or WebP, or a .npy.")
    values = DECODERS[extension](content, str(path))
    return torch.from_numpy(disparity_from_depth_map(values, kind, size, str(path)))[None, None]


def run(arguments: argparse.Namespace) -> None:
    config = config_from(RefocusConfig, arguments)
    photo = read_bytes(config.photo, "PHOTO")
    # After the checks that need nothing heavy
    import torch

    from dofsuite.files import write_atomic
    from dofsuite.images import decode_image, to_pil
    from dofsuite.refocus.pipeline import RefocusPipeline, checked_controls

    # Before a large model is loaded: the pipeline's own check
    try:
        checked_controls(config.focus, config.bokeh, 1 if config.steps is None else config.steps)
    except ValueError as error:
        raise UserError(f"--focus, --bokeh or --steps: {error}.") from error
    image = torch.from_numpy(decode_image(photo, str(config.photo))).permute(2, 0, 1)[None]
    depth = None
    if config.depth is not None:
        depth = read_disparity(config.depth, config.depth_kind, (image.shape[-2], image.shape[-1]))
    # Refocus
    pipe = RefocusPipeline.from_export(config.model)
    if torch.cuda.is_available():
        pipe.to("cuda")
    generator = torch.Generator().manual_seed(config.seed)
    inputs = (image, config.focus, config.bokeh, depth, config.steps, generator)
    (images,) = cast(tuple[torch.Tensor], pipe(*inputs, "pt", return_dict=False))
    # Write in the format that the name says
    refocused, path = to_pil(images[0].cpu()), config.output
    write_atomic(path, lambda file: refocused.save(file, format=FORMATS[path.suffix.lower()]))
    x, y = config.focus
    print(
        f"{path}: {refocused.width}x{refocused.height}, focus {x:g},{y:g}, bokeh {config.bokeh:g}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_command_line(run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
