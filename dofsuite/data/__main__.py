"""Prepare data sets: `python -m dofsuite.data pack`, `encode`, `index`, `import`, `generate`.

`pack` may be left out.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dofsuite.cli import Parser, add_options, config_from, option, run_command_line
from dofsuite.data.generation import GenerateConfig, generate
from dofsuite.data.importers.run import ImportConfig, import_data_set
from dofsuite.data.packing.index import IndexConfig, index
from dofsuite.data.packing.pack import PackConfig, PredictDisparity, pack, reasons

DESCRIPTIONS = {
    "pack": (
        "Pack a folder of JPEG, PNG or WebP images into shards. A depth map lies next to its image "
        "(photo.jpg with photo.png, photo_depth.png or photo.npy) or in a folder of its own "
        "(--depth). A caption lies next to it as photo.txt; f-number, focal length and sensor "
        "width are read from the images' EXIF."
    ),
    "encode": (
        "Encode the captions of shards by SDXL's text encoders, beside the shards (prompts/), so "
        "that training loads no text encoder. 320 kB a caption; a run that was stopped goes on "
        "with the shards that are missing."
    ),
    "index": (
        "Index uncompressed tars that webdataset's writers wrote, so that they can be trained on: "
        "an index beside each and a manifest. The tars are read once and not changed. Beside "
        "shards of our own it writes the images' sizes, which data.buckets needs of a remote set."
    ),
    "import": (
        "Import your copy of a published data set: shards of its all-in-focus images and depth "
        "and, with --purpose evaluate, its pairs of sharp and blurred photographs. Nothing is "
        "downloaded; a license that does not grant the purpose is refused before a file is read."
    ),
    "generate": (
        "Make all-in-focus images from prompts by a text-to-image model, and pack them. Licenses "
        "are said first and stand in the manifest. A run that was stopped makes what is missing."
    ),
}


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """What is encoded, and by which encoders."""

    folder: tuple[Path, ...] = option(
        type=Path, metavar="SHARDS", nargs="+", help="folders of shards with captions"
    )
    base: str = option(
        "--base",
        metavar="SDXL",
        default="stabilityai/stable-diffusion-xl-base-1.0",
        help="model.backbone.path of the training: a hub id or folder; default: %(default)s",
    )
    revision: str | None = option(
        "--revision", default=None, help="model.backbone.revision of the training"
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


def run_encode(arguments: argparse.Namespace) -> None:
    from dofsuite.backbones import PretrainedSdxl, SdxlPromptEncoder
    from dofsuite.data.prompt_sidecar import encode_prompts, sidecar_folder

    config = config_from(EncodeConfig, arguments)
    name = PretrainedSdxl(config.base, revision=config.revision).prompt_source
    encoder = SdxlPromptEncoder(config.base, config.revision)
    for folder in config.folder:
        manifest = encode_prompts(folder, encoder.encode_row, name, print)
        print(f"{manifest.samples} samples with prompt embeddings in {sidecar_folder(folder)}")


def run_index(arguments: argparse.Namespace) -> None:
    config = config_from(IndexConfig, arguments)
    manifest = index(config)
    print(
        f"{manifest.samples} samples in {len(manifest.shards)} shards in {config.folder}: "
        f"{manifest.samples_with_depth} with depth, {manifest.samples_with_caption} with a "
        f"caption, {manifest.samples_with_exif} with f-number and focal length"
    )


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


def run_import(arguments: argparse.Namespace) -> None:
    config = config_from(ImportConfig, arguments)
    import_data_set(config, lambda: load_depth_model(config.depth_model), say)


def run_generate(arguments: argparse.Namespace) -> None:
    from dofsuite.backbones import PretrainedTextToImage

    config = config_from(GenerateConfig, arguments)
    described = PretrainedTextToImage(
        config.model, config.revision, config.dtype, config.lora, config.lora_scale
    )
    # Images and shards
    manifest = generate(
        config,
        lambda: described.load(config.offload),
        lambda: load_depth_model(config.depth_model),
        say,
    )
    print(
        f"{manifest.samples} images, {manifest.samples_with_depth} of them with depth, in "
        f"{len(manifest.shards)} shards in {config.output}; the PNGs stay in {config.images_folder}"
    )


def say(line: str) -> None:
    print(line, flush=True)


COMMANDS = {
    "pack": (run_pack, PackConfig),
    "encode": (run_encode, EncodeConfig),
    "index": (run_index, IndexConfig),
    "import": (run_import, ImportConfig),
    "generate": (run_generate, GenerateConfig),
}


def parser(command: str = "pack") -> Parser:
    parser = Parser(f"data {command}", DESCRIPTIONS[command])
    add_options(parser, COMMANDS[command][1])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake is one line and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words[:1] and words[0] in COMMANDS else "pack"
    return run_command_line(COMMANDS[command][0], parser(command), words)


if __name__ == "__main__":
    sys.exit(main())
