"""Prepare data sets: `python -m dofsuite.data pack DIR -o SHARDS`; `pack` may be left out."""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from dofsuite.cli import Parser, add_options, config_from, run_command_line
from dofsuite.data.packing.pack import PackConfig, PredictDisparity, pack, reasons

COMMAND = "pack"
DESCRIPTION = (
    "Pack a folder of JPEG, PNG or WebP images into shards. A depth map lies next to its image "
    "(photo.jpg with photo.png, photo_depth.png or photo.npy) or in a folder of its own "
    "(--depth). A caption lies next to it as photo.txt; f-number, focal length and sensor width "
    "are read from the images' EXIF."
)


def run_pack(arguments: argparse.Namespace) -> None:
    config = config_from(PackConfig, arguments)
    manifest = pack(config, lambda: load_depth_model(config.depth_model))
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    print(
        f"{manifest.samples} images, {manifest.samples_with_depth} of them with depth, in "
        f"{len(manifest.shards)} shards ({megabytes:.1f} MB) in {config.output}; "
        f"{manifest.samples_with_caption} with a caption, {manifest.samples_with_exif} with "
        "f-number, focal length and sensor width"
    )
    if manifest.without_exif:
        what = "left out" if config.require_exif else "packed without a camera"
        print(f"{what}: {reasons(manifest.without_exif)}")


def load_depth_model(path: str | None) -> PredictDisparity:
    """Load the depth model of photographs, for images in NumPy."""
    import torch

    from dofsuite.photography import DepthEstimator

    estimate = DepthEstimator(path)
    _ = estimate.model  # now, so that a missing one is said once

    def predict(image_srgb: np.ndarray) -> np.ndarray:
        disparity = estimate(torch.from_numpy(image_srgb).permute(2, 0, 1)).disparity
        return np.asarray(disparity[0, 0])

    return predict


def parser() -> Parser:
    parser = Parser(f"data {COMMAND}", DESCRIPTION)
    add_options(parser, PackConfig)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command_line(run_pack, parser(), words[1:] if words[:1] == [COMMAND] else words)


if __name__ == "__main__":
    sys.exit(main())
