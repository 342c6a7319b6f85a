"""`simulate`: every variant of every image, each image whole or not at all."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dofsuite.backbones import Codec
from dofsuite.errors import UserError
from dofsuite.evaluation.job import check_settings, default_device, rank_and_world_size
from dofsuite.files import make_folder
from dofsuite.simulation.config import SimulateConfig
from dofsuite.simulation.plan import make_plan, show_plan
from dofsuite.simulation.scenes import Scene, find_scenes
from dofsuite.simulation.variants import RECORD, write_variants

# Options that say what is made; the others only say how much, or where it is from.
OF_THE_FILES = (
    *("planes", "levels", "file_format", "quality", "vae", "size_px", "depth_model", "depth_kind"),
    *("gamma", "layers", "reference_width_px", "is_depth_predicted"),
)


def simulate(config: SimulateConfig) -> None:
    """Make the variants that are missing.

    Raises:
        UserError: An image cannot be used, the output holds something else, or the disk has not the
            room; images that are complete stay.
    """
    # What is there and what is missing, of this process's share
    scenes = find_scenes(config)
    if config.output.exists():
        check_settings(config.output, settings_of(config), write=False)
    rank, world_size = rank_and_world_size()
    own = scenes[rank::world_size]
    todo = [scene for scene in own if not is_complete(config.output / scene.name)]
    if not todo:
        print(f"{config.output}: all {len(own)} images are there.")
        return

    # Blur and disk, before anything is written
    device, codec = default_device(), load_codec(config)
    plan = make_plan(todo, config, codec, device)
    show_plan(plan, len(todo), len(own) - len(todo), config)
    if config.dry_run:
        return

    # Image by image
    make_folder(config.output)
    check_settings(config.output, settings_of(config))
    write_all(todo, config, codec, device)
    print(f"{config.output}: {len(todo)} images x {config.variants} variants written")


def write_all(
    todo: list[Scene], config: SimulateConfig, codec: Codec | None, device: torch.device
) -> None:
    total = len(todo) * config.variants
    with tqdm(total=total, unit="variant", mininterval=1.0, disable=None) as bar:
        for scene in todo:
            bar.set_description(scene.name[:24])
            write_variants(config.output / scene.name, scene, config, codec, device, bar.update)


def settings_of(config: SimulateConfig) -> dict[str, Any]:
    values = asdict(config) | {"is_depth_predicted": config.is_depth_predicted}
    return {name: values[name] for name in OF_THE_FILES}


def is_complete(folder: Path) -> bool:
    """Whether an image's folder is there; it appears whole.

    Raises:
        UserError: Something else has its name.
    """
    if not os.path.lexists(folder):
        return False
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder}: it lies where variants are to be written; move it away.")
    return True


def load_codec(config: SimulateConfig) -> Codec | None:
    """Load the VAE of latents, in float32.

    Raises:
        UserError: It cannot be loaded, or does not fit the size.
    """
    if config.vae is None:
        return None
    from dofsuite.backbones import PretrainedVae

    codec = PretrainedVae(config.vae, dtype="float32").load().to(default_device())
    if config.size_px is None or config.size_px % codec.downscale:
        raise UserError(
            f"--size: this VAE needs a multiple of {codec.downscale} px, as in --size 512."
        )
    return codec
