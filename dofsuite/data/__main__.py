"""Prepare data sets: `python -m dofsuite.data pack`, `encode`, `index`, `import`, `generate`.

`pack` may be left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dofsuite.cli import Parser, add_options, config_from, option, run_command_line
from dofsuite.data.generation import GenerateConfig, generate
from dofsuite.data.importers.run import ImportConfig, import_data_set
from dofsuite.data.manifest import KINDS, PROMPTS
from dofsuite.data.packing.index import IndexConfig, index
from dofsuite.data.packing.pack import PackConfig, pack, reasons
from dofsuite.errors import UserError

if TYPE_CHECKING:
    from dofsuite.data.sidecar import Encoder, EncodeRow

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
# As `trainer.precision` may be written -> as a trainer calls it.
PRECISIONS = {None: "32-true", 32: "32-true", "32": "32-true", "32-true": "32-true"}
PRECISIONS |= {"bf16": "bf16-mixed", "bf16-mixed": "bf16-mixed"}
DESCRIPTIONS = {
    "pack": (
        "Pack a folder of JPEG, PNG or WebP images into shards. A depth map lies next to its image "
        "(photo.jpg with photo.png, photo_depth.png or photo.npy) or in a folder of its own "
        "(--depth). A caption lies next to it as photo.txt; f-number, focal length and sensor "
        "width are read from the images' EXIF."
    ),
    "encode": (
        "Compute beforehand, beside the shards, what frozen networks make of them in training: "
        "prompts (SDXL's text encoders, 320 kB a caption), latents (the VAE, 262 kB an image of "
        "1024 px) and focus_targets (the saliency model, a number). A run that was stopped goes "
        "on with the shards that are missing."
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
    """What is encoded, and by which networks."""

    folder: tuple[Path, ...] = option(
        type=Path, metavar="SHARDS", nargs="+", help="folders of shards"
    )
    what: tuple[str, ...] = option(
        "--what",
        metavar="KIND",
        nargs="+",
        choices=tuple(KINDS),
        default=(PROMPTS,),
        help=f"{', '.join(KINDS)}; default: {PROMPTS}",
    )
    base: str | None = option(
        "--base",
        metavar="SDXL",
        default=None,
        help=f"model.backbone.path of the training: a hub id or folder; default: {SDXL}",
    )
    revision: str | None = option(
        "--revision", default=None, help="model.backbone.revision of the training"
    )
    training: tuple[str, ...] | None = option(
        "--for",
        metavar="FIT",
        nargs=argparse.REMAINDER,
        default=None,
        help="last of all: the experiment file of the training and its options, as after "
        "python -m dofsuite.fit; the networks, the images' side and the precision are its own",
    )

    def __post_init__(self) -> None:
        others = [kind for kind in self.what if kind != PROMPTS]
        if others and self.training is None:
            raise UserError(
                f"--what: {others[0]} are of a training's own networks; end the command with --for "
                "and its experiment file."
            )
        if self.training and (self.base or self.revision):
            raise UserError(
                "--base, --revision: the file after --for names the networks; leave them out."
            )


def run_pack(arguments: argparse.Namespace) -> None:
    from dofsuite.photography.numpy_depth import load_depth_model

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
    from dofsuite.data.sidecar import write_sidecars

    config = config_from(EncodeConfig, arguments)
    if config.training is None:
        encoders = [prompt_encoder(config)]
    else:
        encoders = encoders_for(config.training, config.what)
    for folder, manifest in write_sidecars(config.folder, encoders, print).items():
        print(f"{manifest.samples} samples with {KINDS[folder.name]} in {folder}")


def prompt_encoder(config: EncodeConfig) -> Encoder:
    """Return SDXL's text encoders."""
    from dofsuite.backbones import PretrainedSdxl
    from dofsuite.backbones.sdxl.beforehand import PromptEmbeddings
    from dofsuite.data.sidecar import Encoder

    prompts = PromptEmbeddings(PretrainedSdxl(config.base or SDXL, revision=config.revision))
    return Encoder(PROMPTS, prompts.name, prompts.load())


def encoders_for(training: Sequence[str], kinds: Sequence[str]) -> list[Encoder]:
    """Return the encoders of a training, which compute in its precision.

    Args:
        training: Its words on the command line of `fit`.
        kinds: Of side-cars.

    Raises:
        UserError: The experiment has a mistake, or its model does not take one of the kinds.
    """
    import torch

    from dofsuite.data.sidecar import Encoder, has_squares, name_of
    from dofsuite.experiment.command import read_command
    from dofsuite.experiment.experiment import read_experiment

    # What the training takes
    command = read_command(training)
    file = command.file
    if file is None:
        raise UserError("--for: name an experiment file, as after python -m dofsuite.fit.")
    experiment = read_experiment(command)
    beforehand = getattr(experiment.model(), "beforehand", {})
    data = experiment.config["data"]["init_args"]
    size_px = data.get("size_px")
    are_squares = has_squares(size_px, data.get("crop"), data.get("buckets"))
    precision = PRECISIONS.get(experiment.config["trainer"]["precision"], "")
    if not precision:
        raise UserError(f"{file}: trainer.precision: write bf16-mixed or 32-true.")
    for kind in kinds:
        if kind not in beforehand:
            takes = ", ".join(beforehand) or "nothing"
            raise UserError(
                f"--what: {kind} would not be read by {file}, whose model takes {takes} "
                "beforehand; leave it out."
            )
        if kind != PROMPTS and not are_squares:
            raise UserError(
                f"{file}: data.size_px: {kind} are of centered squares of one side; set it, and "
                "neither data.crop: random nor data.buckets."
            )

    # Each in the precision of the training
    def in_precision(encode: EncodeRow) -> EncodeRow:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        is_mixed = precision == "bf16-mixed"

        def encoded(row: Any) -> dict[str, Any]:
            with torch.autocast(device, torch.bfloat16, enabled=is_mixed):
                return encode(row)

        return encoded

    return [
        Encoder(
            kind,
            name_of(kind, beforehand[kind].name, size_px, precision),
            in_precision(beforehand[kind].load()),
            size_px,
        )
        for kind in kinds
    ]


def run_index(arguments: argparse.Namespace) -> None:
    config = config_from(IndexConfig, arguments)
    manifest = index(config)
    print(
        f"{manifest.samples} samples in {len(manifest.shards)} shards in {config.folder}: "
        f"{manifest.samples_with_depth} with depth, {manifest.samples_with_caption} with a "
        f"caption, {manifest.samples_with_exif} with f-number and focal length"
    )


def run_import(arguments: argparse.Namespace) -> None:
    from dofsuite.photography.numpy_depth import load_depth_model

    config = config_from(ImportConfig, arguments)
    import_data_set(config, lambda: load_depth_model(config.depth_model), say)


def run_generate(arguments: argparse.Namespace) -> None:
    from dofsuite.backbones import PretrainedTextToImage
    from dofsuite.photography.numpy_depth import load_depth_model

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
