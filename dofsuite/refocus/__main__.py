"""Refocus a photograph.

python -m dofsuite.refocus PHOTO --focus X,Y --bokeh B -o OUT [--depth MAP] [--model RUN_OR_EXPORT]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dofsuite.cli import (
    Parser,
    add_options,
    config_from,
    focus_point,
    option,
    run_command_line,
)
from dofsuite.errors import UserError
from dofsuite.files import read_bytes
from dofsuite.photography.depth_options import DEPTH_KIND, DEPTH_MODEL, DepthKind

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


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
    depth: str | None = option(
        "--depth",
        default=None,
        metavar="FILE|auto",
        help="depth map (gray PNG or .npy), or by a depth model; optional",
    )
    depth_kind: DepthKind | None = option("--depth-kind", **DEPTH_KIND)
    depth_model: str | None = option("--depth-model", **DEPTH_MODEL)
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


def run(arguments: argparse.Namespace) -> None:
    config = config_from(RefocusConfig, arguments)
    photo = read_bytes(config.photo, "PHOTO")
    # After the checks that need nothing heavy
    import torch

    from dofsuite.files import write_atomic
    from dofsuite.images import decode_image, to_pil
    from dofsuite.photography import DepthEstimator, read_depth
    from dofsuite.refocus.pipeline import RefocusPipeline, checked_controls

    # Before a large model is loaded: the pipeline's own check
    try:
        checked_controls(config.focus, config.bokeh, 1 if config.steps is None else config.steps)
    except ValueError as error:
        raise UserError(f"--focus, --bokeh or --steps: {error}.") from error
    image = torch.from_numpy(decode_image(photo, str(config.photo))).permute(2, 0, 1)[None]
    depth = None
    if config.depth == "auto":
        depth = DepthEstimator(config.depth_model)(image[0]).disparity
    elif config.depth is not None:
        size = (image.shape[-2], image.shape[-1])
        depth = read_depth(Path(config.depth), config.depth_kind, size).disparity
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
