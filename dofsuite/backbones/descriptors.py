"""What an export says of the networks it came from: descriptors as plain values, and back to networks."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from dofsuite import backbones
from dofsuite.backbones.codec import VaeCodec
from dofsuite.backbones.hub import from_pretrained
from dofsuite.backbones.sdxl.prediction_type import read_prediction
from dofsuite.backbones.sdxl.prompt_encoder import SdxlPromptEncoder
from dofsuite.backbones.sdxl.sdxl import PretrainedSdxl, Sdxl, SdxlModules, SmallSdxl
from dofsuite.errors import UserError


def describe(descriptor: Any) -> dict[str, Any]:
    """Return a descriptor's class and arguments as plain values; each argument is an attribute of its name."""
    names = inspect.signature(type(descriptor).__init__).parameters.keys() - {"self"}
    return {
        "class": type(descriptor).__name__,
        "arguments": {name: getattr(descriptor, name) for name in sorted(names)},
    }


def rebuild(described: dict[str, Any]) -> Any:
    """Return the descriptor that `describe` described.

    Raises:
        UserError: Its class is none of `dofsuite.backbones`.
    """
    name = described["class"]
    if name not in backbones.__all__:
        raise UserError(
            f"{name}: class: no network of dofsuite.backbones; pass the descriptor to from_export instead."
        )
    arguments = {
        key: tuple(v) if isinstance(v, list) else v for key, v in described["arguments"].items()
    }  # of JSON
    return getattr(backbones, name)(**arguments)


def exported_sdxl(folder: Path, backbone: Sdxl) -> SdxlModules:
    """Load the UNet that a run exported, with the codec and the prompts of the SDXL that it was trained on.

    Args:
        folder: Holds `unet/`, and `codec/` where the codec is ours.
        backbone: A small one is read from the folder alone; of a pretrained one the VAE and text
            encoders are loaded, and never its UNet (10 GB).

    Raises:
        UserError: A part is missing or cannot be downloaded.
    """
    if isinstance(backbone, SmallSdxl):
        arguments = describe(backbone)["arguments"] | {"weights": str(folder)}
        return SmallSdxl(**arguments).load()
    unet = from_pretrained(UNet2DConditionModel, str(folder), "unet", None, torch.bfloat16)
    if isinstance(backbone, PretrainedSdxl):
        place = (
            (backbone.path, "vae", backbone.revision)
            if backbone.vae is None
            else (backbone.vae, "", None)
        )
        codec = VaeCodec(from_pretrained(AutoencoderKL, *place, getattr(torch, backbone.vae_dtype)))
        prompts = SdxlPromptEncoder(
            backbone.path, backbone.revision, backbone.cache_prompts, backbone.keep_text_encoders
        )
    else:
        _, codec, prompts, _ = backbone.load()
    return SdxlModules(
        unet.eval().requires_grad_(False), codec, prompts, read_prediction(str(folder))
    )


def exported_part(network: type[Any], folder: Path, name: str) -> Any:
    """Load one of our own small networks that a run exported, in float32.

    Raises:
        UserError: It is missing or cannot be read.
    """
    return from_pretrained(network, str(folder), name, None, torch.float32, low_cpu_mem_usage=False)
