"""What a text-to-image run leaves for use: safetensors in folders that diffusers reads.

`unet/` is the generator, in stock layout: stock diffusers samples from it with the `scheduler/` beside it. There also
lie `exif_embedder/` (where the generator is told the EXIF; apart, because stock loaders know no such weights), `codec/`
(a small network's), `focus_predictor/` (where there is a lens), `text2image.json` (the SDXL, the depth and the saliency
model, and the settings that training and inference share), a model card, and `teacher/` where the run trained one.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dofsuite.backbones import PretrainedSdxl, SpaceToDepthCodec
from dofsuite.backbones.exported import describe
from dofsuite.backbones.schedule import save_scheduler
from dofsuite.errors import UserError
from dofsuite.text2image.exif import ExifTimeEmbedding, without_exif
from dofsuite.text2image.sampling import FEW_STEPS

if TYPE_CHECKING:
    from dofsuite.text2image.module import Text2Image

SETTINGS = "text2image.json"

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


def export(module: Text2Image, folder: Path) -> None:
    """Write generator, focus predictor, settings and card; 16 bit (bfloat16) where the base is a full-size SDXL."""
    folder.mkdir(parents=True, exist_ok=True)
    networks, small = module.networks, isinstance(module.networks.codec, SpaceToDepthCodec)
    dtype = torch.float32 if small else torch.bfloat16
    save_unet(generator_of(module), "generator" in module.exif, dtype, folder)
    if networks.focus is not None:
        networks.focus.save_pretrained(folder / "focus_predictor")
    if module.stages.teacher:
        save_unet(networks.teacher, "teacher" in module.exif, dtype, folder / "teacher")
    for place in (folder, *([folder / "teacher"] if module.stages.teacher else [])):
        save_scheduler(networks.prediction, place)
        if small:
            networks.codec.save_pretrained(place / "codec")
    (folder / SETTINGS).write_text(json.dumps(settings_of(module), indent=2) + "\n")
    (folder / "README.md").write_text(card_of(module, small))


def generator_of(module: Text2Image) -> nn.Module:
    """Return the running average of the generator where there is one; before its first turn, what it begins as."""
    if module.average is not None and module.average.n_averaged > 0:
        return module.average.module
    before_its_turns = module.global_step <= module.stages.teacher
    return module.networks.teacher if module.stages.teacher and before_its_turns else module.networks.generator


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
    copies: dict[int, Any] = {}
    for value in [*network.parameters(), *network.buffers()]:
        moved = value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype, copy=True)
        copies[id(value)] = nn.Parameter(moved, requires_grad=False) if isinstance(value, nn.Parameter) else moved
    return copy.deepcopy(network, copies)


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
    start = 'SmallSdxl(weights="THIS_FOLDER/teacher")' if small else "put its unet/ into a copy of the base's folder"
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
        UserError: The folder holds no generator.
    """
    for place in (folder, folder / "export"):
        if (place / SETTINGS).is_file():
            return json.loads((place / SETTINGS).read_text()) | {"folder": place}
    raise UserError(
        f"{folder}: --model: holds no text-to-image generator ({SETTINGS} is missing); train one: "
        "python -m dofsuite.fit experiments/quickstart_text2image.yaml."
    )
