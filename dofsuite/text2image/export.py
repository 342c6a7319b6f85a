"""What a text-to-image run leaves for use: safetensors in folders that diffusers reads.

`unet/` is the generator, in stock layout: stock diffusers samples from it with the `scheduler/`
beside it. There also lie `exif_embedder/` (where the generator is told the EXIF; apart, because
stock loaders know no such weights), `codec/` (a small network's), `focus_predictor/` (where there
is a lens), `text2image.json` (the SDXL, the depth and the saliency model, and the settings that
training and inference share), a model card, and `teacher/` where the run trained one.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from dofsuite.backbones import PretrainedSdxl, SpaceToDepthCodec
from dofsuite.backbones.descriptors import describe
from dofsuite.backbones.sdxl.prediction_type import save_scheduler
from dofsuite.errors import UserError
from dofsuite.text2image.camera.exif import ExifTimeEmbedding, without_exif
from dofsuite.text2image.dmd2.sampling import FEW_STEPS
from dofsuite.training.sharding.fsdp import gathered

if TYPE_CHECKING:
    from dofsuite.text2image.module import Text2Image

SETTINGS = "text2image.json"
SETTINGS_KEYS = {"backbone", "depth", "lens", "few_steps", "size_px", "exif"}
"""What inference reads of it."""

CARD = """# A few-step generator{with_lens}

Trained with dofsuite (arXiv 2510.06215) from {base}.

    python -m dofsuite.text2image "PROMPT" --f-number 1.8 2.8 4 5.6 8 11 16 22 --model THIS_FOLDER -o DIR

`unet/` is a `UNet2DConditionModel` in diffusers' layout{exif}. In a stock `StableDiffusionXLPipeline` of its base it
wants `LCMScheduler.from_pretrained(THIS_FOLDER, subfolder="scheduler")`, `timesteps={few_steps}` and
`guidance_scale=1`.{teacher}

The weights are a derivative of their base: the base's licence holds for them{licence}.
"""

TEACHER = """

`teacher/` is the real score that this run trained, for further runs to start from: {start}."""


class Whole(NamedTuple):
    """The networks that are written."""

    generator: nn.Module
    teacher: nn.Module | None
    focus: nn.Module | None


def export(module: Text2Image, folder: Path) -> None:
    """Write generator, focus predictor, settings and card; 16 bit (bfloat16) where the base is a full-size SDXL.

    Raises:
        UserError: The weights are dealt over the ranks, and training has not ended, which brings
            them together.
    """
    if module.meta_networks and module.whole is None:
        raise UserError(
            "trainer.strategy: weights that are dealt over ranks can be exported when training has ended."
        )
    whole, small, dtype = module.whole or networks_of(module), is_small(module), dtype_of(module)
    folder.mkdir(parents=True, exist_ok=True)
    save_unet(whole.generator, "generator" in module.exif, dtype, folder)
    if whole.focus is not None:
        whole.focus.save_pretrained(folder / "focus_predictor")
    if whole.teacher is not None:
        save_unet(whole.teacher, "teacher" in module.exif, dtype, folder / "teacher")
    for place in (folder, *([folder / "teacher"] if whole.teacher is not None else [])):
        save_scheduler(module.networks.prediction, place)
        if small:
            module.networks.codec.save_pretrained(place / "codec")
    (folder / SETTINGS).write_text(json.dumps(settings_of(module), indent=2) + "\n")
    (folder / "README.md").write_text(card_of(module, small))


def networks_of(module: Text2Image) -> Whole:
    """Return what a run leaves, where and as it lies."""
    networks = module.networks
    return Whole(
        generator_of(module), networks.teacher if module.stages.teacher else None, networks.focus
    )


def gather(module: Text2Image) -> Whole | None:
    """Copy what is dealt over the ranks to the CPU of the first; every rank must ask, the others get None."""
    dtypes = Whole(dtype_of(module), dtype_of(module), None)  # the focus predictor keeps its own
    copies = [
        network
        and gathered(network, module.meta_networks[name], dtype, module.trainer.is_global_zero)
        for name, network, dtype in zip(Whole._fields, networks_of(module), dtypes, strict=True)
    ]
    return Whole(*copies) if module.trainer.is_global_zero else None


def is_small(module: Text2Image) -> bool:
    """Whether the base is one of the small networks, which bring their codec."""
    return isinstance(module.networks.codec, SpaceToDepthCodec)


def dtype_of(module: Text2Image) -> torch.dtype:
    """Return the type of exported UNets."""
    return torch.float32 if is_small(module) else torch.bfloat16


def generator_of(module: Text2Image) -> nn.Module:
    """Return the running average of the generator where there is one; before its first turn, what it begins as."""
    if module.average is not None and module.average.n_averaged > 0:
        return module.average.module
    before_its_turns = module.global_step <= module.stages.teacher
    return (
        module.networks.teacher
        if module.stages.teacher and before_its_turns
        else module.networks.generator
    )


def save_unet(unet: nn.Module, told_exif: bool, dtype: torch.dtype, folder: Path) -> None:
    """Write `unet/` in diffusers' stock layout, and the EXIF's embedding apart if the network is told the EXIF."""
    unet = copy_on_cpu(unet, dtype)
    if isinstance(unet.time_embedding, ExifTimeEmbedding):
        embedder = without_exif(unet)
        if told_exif:
            embedder.save_pretrained(folder / "exif_embedder")
    unet.save_pretrained(folder / "unet")


def copy_on_cpu(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Copy a network to the CPU in another dtype, never holding a second one where the first lies."""
    return gathered(network, network, dtype, keep=True)


def settings_of(module: Text2Image) -> dict[str, Any]:
    """Return what inference must know, and what the networks were trained beside."""
    return {
        "backbone": describe(module.backbone),
        "depth": describe(module.depth),
        "saliency": describe(module.saliency),
        "lens": asdict(module.lens) if module.lens is not None else None,
        "few_steps": list(FEW_STEPS),
        "size_px": module.size_px,
        "exif": list(module.exif),
    }


def card_of(module: Text2Image, small: bool) -> str:
    """Return the model card."""
    start = (
        'SmallSdxl(weights="THIS_FOLDER/teacher")'
        if small
        else "put its unet/ into a copy of the base's folder"
    )
    pretrained = isinstance(module.backbone, PretrainedSdxl)
    return CARD.format(
        with_lens="" if module.lens is None else " with a lens",
        base=f"`{describe(module.backbone)}`",
        exif=", `exif_embedder/` what tells it the camera" if "generator" in module.exif else "",
        few_steps=list(FEW_STEPS),
        teacher=TEACHER.format(start=start) if module.stages.teacher else "",
        licence=" (SDXL: CreativeML Open RAIL++-M)" if pretrained else "",
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """Read an export's settings, with the `folder` that they lie in; a run folder stands for its export.

    Raises:
        UserError: The folder holds no generator, or its settings are damaged.
    """
    for place in (folder, folder / "export"):
        if (place / SETTINGS).is_file():
            return parsed(place / SETTINGS) | {"folder": place}
    raise UserError(
        f"{folder}: --model: holds no text-to-image generator ({SETTINGS} is missing); train one: "
        "python -m dofsuite.fit experiments/quickstart_text2image.yaml."
    )


def parsed(path: Path) -> dict[str, Any]:
    """Read an export's settings file.

    Raises:
        UserError: It is not whole.
    """
    try:
        settings = json.loads(path.read_text())
        complete = SETTINGS_KEYS <= settings.keys()
    except (ValueError, AttributeError):
        complete = False
    if not complete:
        raise UserError(f"{path}: --model: this file is damaged; take a whole copy of the export.")
    return settings
