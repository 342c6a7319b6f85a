"""Prepare data sets: `python -m dofsuite.data pack DIR -o SHARDS`; `pack` may be left out."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dofsuite.cli import Parser, add_options, config_from, run_command_line
from dofsuite.data.packing.pack import PackConfig, pack


class Command(NamedTuple):
    """`run(config)` with the config that the options fill."""

    description: str
    config: type[Any]
    run: Callable[[Any], None]


def run_pack(config: PackConfig) -> None:
    manifest = pack(config)
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(
        f"{manifest.samples} images, {manifest.samples_with_depth} of them with depth, in "
        f"{len(manifest.shards)} shards ({megabytes:.1f} MB) in {config.output}; "
        f"{manifest.samples_with_caption} with a caption, {manifest.samples_with_exif} with "
        "f-number and focal length"
    )


COMMANDS = {
    "pack": Command(
        "Pack a folder of JPEG, PNG or WebP images into shards. A depth map lies next to its image "
        "(photo.jpg with photo.png, photo_depth.png or photo.npy) or in a folder of its own "
        "(--depth). A caption lies next to it as photo.txt; f-number and focal length are read "
        "from the images' EXIF.",
        PackConfig,
        run_pack,
    )
}


def parser(name: str = "pack") -> Parser:
    parser = Parser(f"data {name}", COMMANDS[name].description)
    add_options(parser, COMMANDS[name].config)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words.pop(0) if words and words[0] in COMMANDS else "pack"

    def run(arguments: argparse.Namespace) -> None:
        COMMANDS[name].run(config_from(COMMANDS[name].config, arguments))

    return run_command_line(run, parser(name), words)


if __name__ == "__main__":
    sys.exit(main())
