"""`python -m dofsuite.data DIR -o SHARDS`: pack a folder of pictures, with what lies beside them, into shards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dofsuite.cli import Parser, answer
from dofsuite.data.packing.pack import DEPTH_UNITS, PackOptions, pack


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(
        "data",
        "Pack a folder of JPEG, PNG or WebP pictures into shards. A depth map lies beside its picture "
        "(photo.jpg with photo.png, photo_depth.png or photo.npy) or in a folder of its own (--depth). "
        "A caption lies beside it as photo.txt; f-number and focal length are read from the pictures' EXIF.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the pictures")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="SHARDS", help="a new folder"
    )
    parser.add_argument(
        "--depth", type=Path, metavar="DIR", help="depth maps with the same names as the pictures"
    )
    parser.add_argument(
        "--depth-kind",
        choices=list(DEPTH_UNITS),
        help="disparity: larger is nearer; depth: farther",
    )
    units = sorted({unit for units in DEPTH_UNITS.values() for unit in units})
    parser.add_argument("--depth-unit", choices=units, default="relative", help="default: relative")
    parser.add_argument("--source", help="where the pictures are from; default: the folder's name")
    parser.add_argument(
        "--licence", default="not stated", help="under which terms they may be used"
    )
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    parser.add_argument("--samples-per-shard", type=int, default=256)
    return parser


def run(given: argparse.Namespace) -> None:
    """Pack, and say what was packed."""
    options = PackOptions(
        source=given.source or given.folder.resolve().name,
        licence=given.licence,
        split=given.split,
        depth_kind=given.depth_kind,
        depth_unit=given.depth_unit,
        samples_per_shard=given.samples_per_shard,
    )
    manifest = pack(given.folder, given.output, options, given.depth)
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(
        f"{manifest.samples} pictures, {manifest.samples_with_depth} of them with depth, in {len(manifest.shards)} "
        f"shards ({megabytes:.1f} MB) in {given.output}; {manifest.samples_with_caption} with a caption, "
        f"{manifest.samples_with_exif} with f-number and focal length"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    return answer(run, parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
