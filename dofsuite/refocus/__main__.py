"""Refocus a photograph.

python -m dofsuite.refocus PHOTO --focus X,Y --bokeh B -o OUT [--depth MAP] [--model RUN_OR_EXPORT]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dofsuite.cli import Parser, run_command_line
from dofsuite.errors import UserError
from dofsuite.files import read_bytes

OUTPUTS = (".png", ".jpg", ".jpeg", ".webp")


def focus_point(text: str) -> tuple[float, float]:
    """Read `X,Y`."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--focus: {text!r} is not X,Y; give fractions of width and height, as in 0.3,0.6."
        ) from None
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise UserError(
            f"--focus: {text} lies outside the photograph; X and Y are fractions between 0 and 1."
        )
    return x, y


def parser() -> Parser:
    """Return the command line."""
    parser = Parser("refocus", "Refocus a photograph.")
    parser.add_argument("photo", type=Path, help="JPEG, PNG or WebP")
    parser.add_argument(
        "--focus",
        required=True,
        metavar="X,Y",
        help="fractions of width and height from the top left",
    )
    parser.add_argument("--bokeh", required=True, type=float, help="bokeh level; 0 is all in focus")
    parser.add_argument(
        "--depth", type=Path, help="depth map of the same size (grey PNG or .npy); none works too"
    )
    parser.add_argument(
        "--depth-kind",
        choices=("disparity", "depth"),
        default="disparity",
        help="larger is nearer, or farther",
    )
    parser.add_argument(
        "--model", type=Path, default=Path("runs/quickstart"), help="a run, or its export"
    )
    parser.add_argument("--steps", type=int, help="Euler steps; by default the export's")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="PNG, JPEG or WebP"
    )
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Load, refocus, write."""
    point = focus_point(arguments.focus)
    if not 0 <= arguments.bokeh < float("inf"):
        raise UserError(f"--bokeh: {arguments.bokeh} is no level; it must be 0 or above.")
    if arguments.steps is not None and arguments.steps < 1:
        raise UserError(f"--steps: {arguments.steps} is no number of steps; it must be 1 or above.")
    if not 0 <= arguments.seed < 2**64:
        raise UserError(f"--seed: {arguments.seed} is no seed; it must be from 0 to 2**64 - 1.")
    if arguments.output.suffix.lower() not in OUTPUTS:
        raise UserError(f"{arguments.output}: --output: end the name in {', '.join(OUTPUTS)}.")
    photo = read_bytes(arguments.photo, "PHOTO")
    depth_bytes = read_bytes(arguments.depth, "--depth") if arguments.depth else None
    import torch

    from dofsuite.data.decode import DECODERS, disparity_from_depth_map
    from dofsuite.files import write_atomic
    from dofsuite.images import decode_image
    from dofsuite.refocus.export import read_settings
    from dofsuite.refocus.pipeline import RefocusPipeline

    image = decode_image(photo, str(arguments.photo))
    depth = None
    if depth_bytes is not None:
        extension = f"depth.{arguments.depth.suffix.lower().lstrip('.')}"
        if extension not in DECODERS:
            raise UserError(
                f"{arguments.depth}: --depth: a depth map is a grey PNG, JPEG or WebP, or a .npy."
            )
        values = DECODERS[extension](depth_bytes, str(arguments.depth))
        disparity = disparity_from_depth_map(
            values, arguments.depth_kind, image.shape[:2], str(arguments.depth)
        )
        depth = torch.from_numpy(disparity)[None, None]
    read_settings(arguments.model)
    pipe = RefocusPipeline.from_export(arguments.model)
    if torch.cuda.is_available():
        pipe.to("cuda")
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(arguments.seed)
    picture = pipe(pixels, point, arguments.bokeh, depth, arguments.steps, generator).images[0]
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[
        arguments.output.suffix.lower()
    ]
    write_atomic(arguments.output, lambda file: picture.save(file, format=kind))
    print(
        f"{arguments.output}: {picture.width}x{picture.height}, focus {arguments.focus}, bokeh {arguments.bokeh:g}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    return run_command_line(run, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
