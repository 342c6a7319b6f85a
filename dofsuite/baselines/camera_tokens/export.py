"""What a run of camera tokens leaves for use, and how it is read back.

`camera_tokens/` makes the tokens; `pytorch_lora_weights.safetensors` is the adapter, which a stock
SDXL pipeline loads too (or `unet/`, where all weights were trained), and `controlnet/` the
ControlNet, in diffusers' layout. `codec/` and `scheduler/` lie there where the network is a small
one. `camera_tokens.json` says on which SDXL it all stands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn

from dofsuite.backbones import (
    Prediction,
    PretrainedSdxl,
    PromptEncoder,
    SmallSdxl,
    SpaceToDepthCodec,
)
from dofsuite.backbones.codec import Codec
from dofsuite.backbones.descriptors import describe, exported_sdxl, rebuild
from dofsuite.backbones.hub import exported_part, from_pretrained
from dofsuite.backbones.sdxl.adapters import load_unet_lora, save_unet_lora
from dofsuite.backbones.sdxl.prediction_type import save_scheduler
from dofsuite.baselines.camera_tokens.module import CameraTokens
from dofsuite.errors import UserError
from dofsuite.text2image.export import save_unet

if TYPE_CHECKING:
    from dofsuite.baselines.camera_tokens.module import CameraSettings

SETTINGS = "camera_tokens.json"

CARD = """# Camera tokens for SDXL

Trained with dofsuite (after Camera Settings as Tokens, Fang et al. 2024) on `{base}`.

The weights are a derivative of their base: the base's licence holds for them{licence}.
"""


class CameraTokensModel(NamedTuple):
    """What sampling needs."""

    unet: UNet2DConditionModel
    codec: Codec
    prompts: PromptEncoder
    prediction: Prediction
    tokens: CameraTokens
    controlnet: ControlNetModel | None
    depth: nn.Module | None
    """The depth model that the ControlNet sees through, where there is one."""
    size_px: int

    def to(self, device: torch.device | str) -> CameraTokensModel:
        """Move the networks, in place."""
        for part in self:
            if isinstance(part, nn.Module):
                part.to(device)
        return self


def export(module: CameraSettings, folder: Path) -> None:
    """Write what was trained, settings and card; 16 bit (bfloat16) where a full-size UNet was trained whole."""
    folder.mkdir(parents=True, exist_ok=True)
    module.tokens.save_pretrained(folder / "camera_tokens")
    if module.lora is not None:
        save_unet_lora(module.unet, folder)
    else:
        small = isinstance(module.codec, SpaceToDepthCodec)
        save_unet(module.unet, False, torch.float32 if small else torch.bfloat16, folder)
        save_scheduler(module.prediction, folder)
        if small:
            module.codec.save_pretrained(folder / "codec")
    if module.controlnet is not None:
        module.controlnet.save_pretrained(folder / "controlnet")
    (folder / SETTINGS).write_text(json.dumps(settings_of(module), indent=2) + "\n")
    licence = (
        " (SDXL: CreativeML Open RAIL++-M)" if isinstance(module.backbone, PretrainedSdxl) else ""
    )
    (folder / "README.md").write_text(CARD.format(base=describe(module.backbone), licence=licence))


def settings_of(module: CameraSettings) -> dict[str, Any]:
    """Return what sampling must know."""
    return {
        "backbone": describe(module.backbone),
        "lora": module.lora is not None,
        "control": module.control is not None,
        "depth": describe(module.depth),
        "size_px": module.size_px,
    }


def read_settings(folder: Path) -> dict[str, Any]:
    """Read an export's settings, with the `folder` that they lie in; a run folder stands for its export.

    Raises:
        UserError: The folder holds no camera tokens.
    """
    for place in (folder, folder / "export"):
        if (place / SETTINGS).is_file():
            return json.loads((place / SETTINGS).read_text()) | {"folder": place}
    raise UserError(
        f"{folder}: model: holds no camera tokens ({SETTINGS} is missing); train them: "
        "python -m dofsuite.fit experiments/camera_tokens_sdxl.yaml."
    )


def load(folder: Path) -> CameraTokensModel:
    """Load an export on the SDXL that it was trained on, frozen, in evaluation mode.

    Raises:
        UserError: The folder holds no camera tokens or lacks a part, or a frozen network cannot be
            loaded.
    """
    settings = read_settings(folder)
    place, backbone = settings["folder"], rebuild(settings["backbone"])
    if settings["lora"]:
        modules = backbone.load()
        load_unet_lora(modules.unet, place)
    else:
        modules = exported_sdxl(place, backbone)
    unet = modules.unet
    if not isinstance(backbone, SmallSdxl):
        unet = unet.bfloat16()
    controlnet = depth = None
    if settings["control"]:
        controlnet = from_pretrained(ControlNetModel, str(place), "controlnet", None, unet.dtype)
        depth = rebuild(settings["depth"]).load()
    tokens = exported_part(CameraTokens, place, "camera_tokens")
    for network in filter(None, (unet, controlnet, tokens)):
        network.eval().requires_grad_(False)
    return CameraTokensModel(
        unet,
        modules.codec,
        modules.prompts,
        modules.prediction,
        tokens,
        controlnet,
        depth,
        settings["size_px"],
    )
