"""Exports of camera tokens, and how they are loaded.

`camera_tokens/` makes the tokens; `pytorch_lora_weights.safetensors` is the adapter, which a stock
SDXL pipeline loads too (or `unet/`, where all weights were trained), and `controlnet/` the
ControlNet, in diffusers' layout. A small network's export holds `codec/` and `scheduler/` too.
`camera_tokens.json` names the SDXL they were trained on (see `settings`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn

from dofsuite.backbones import Prediction, PromptEncoder, SmallSdxl, SpaceToDepthCodec
from dofsuite.backbones.codec import Codec
from dofsuite.backbones.descriptors import exported_sdxl, rebuild
from dofsuite.backbones.hub import exported_part, from_pretrained
from dofsuite.backbones.model_card import model_card
from dofsuite.backbones.sdxl.adapters import load_unet_lora, save_unet_lora
from dofsuite.backbones.sdxl.prediction_type import save_scheduler
from dofsuite.baselines.camera_tokens.settings import CameraTokensSettings
from dofsuite.baselines.camera_tokens.tokens import CameraTokens
from dofsuite.text2image.export import export_dtype, save_unet

CARD = """# Camera tokens for SDXL

Trained with dofsuite (after Camera Settings as Tokens, Fang et al. 2024) on {base}.

The weights are a derivative of their base: the base's licence holds for them{licence}.
"""


class CameraTokensNetworks(NamedTuple):
    """The networks of a run or an export."""

    unet: UNet2DConditionModel
    codec: Codec
    prompts: PromptEncoder
    prediction: Prediction
    tokens: CameraTokens
    controlnet: ControlNetModel | None
    # The depth model of the ControlNet's image.
    depth: nn.Module | None

    def to(self, device: torch.device | str) -> CameraTokensNetworks:
        for part in self:
            if isinstance(part, nn.Module):
                part.to(device)
        return self


def export(networks: CameraTokensNetworks, settings: CameraTokensSettings, folder: Path) -> None:
    """Write the trained networks, settings and card.

    A full-size UNet of which all weights were trained is written in bfloat16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    networks.tokens.save_pretrained(folder / "camera_tokens")

    # The adapter, or the UNet with what is needed to sample from it.
    unet, codec = networks.unet, networks.codec
    if settings.lora:
        save_unet_lora(unet, folder)
    else:
        save_unet(unet, False, export_dtype(codec), folder)
        save_scheduler(networks.prediction, folder)
        if isinstance(codec, SpaceToDepthCodec):
            codec.save_pretrained(folder / "codec")
    if networks.controlnet is not None:
        networks.controlnet.save_pretrained(folder / "controlnet")

    settings.write(folder)
    relation: Literal["adapter", "finetune"] = "adapter" if settings.lora else "finetune"
    card = model_card(CARD, settings.backbone, relation, "text-to-image")
    (folder / "README.md").write_text(card)


def load(folder: Path) -> CameraTokensNetworks:
    """Load an export on the SDXL that it was trained on, frozen, in evaluation mode.

    Raises:
        UserError: The folder holds no camera tokens or lacks a part, or a frozen network cannot be
            loaded.
    """
    place = CameraTokensSettings.find(folder)
    settings = CameraTokensSettings.read(place)
    backbone = rebuild(settings.backbone)

    # SDXL with the adapter, or the trained UNet.
    if settings.lora:
        modules = backbone.load()
        load_unet_lora(modules.unet, place)
    else:
        modules = exported_sdxl(place, backbone)
    unet = modules.unet
    if not isinstance(backbone, SmallSdxl):
        unet = unet.bfloat16()

    controlnet = depth = None
    if settings.control:
        controlnet = from_pretrained(ControlNetModel, str(place), "controlnet", None, unet.dtype)
        depth = rebuild(settings.depth).load()
    tokens = exported_part(CameraTokens, place, "camera_tokens")
    for network in filter(None, (unet, controlnet, tokens)):
        network.eval().requires_grad_(False)
    return CameraTokensNetworks(
        unet, modules.codec, modules.prompts, modules.prediction, tokens, controlnet, depth
    )
