"""Descriptors as plain values for an export's settings, and back; exported SDXL networks."""

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from dofsuite import backbones
from dofsuite.backbones.hub import from_pretrained
from dofsuite.backbones.sdxl.prediction_type import read_prediction
from dofsuite.backbones.sdxl.sdxl import PretrainedSdxl, Sdxl, SdxlModules
from dofsuite.backbones.small.sdxl import SmallSdxl
from dofsuite.errors import UserError

# Of exports from before the text encoders stayed loaded.
REMOVED_ARGUMENTS = ("cache_prompts", "keep_text_encoders")
# What a user says for one run; an export neither carries it nor can say it.
TRUST = "trust_remote_code"


def describe(descriptor: Any) -> dict[str, Any]:
    """Return a descriptor's class and arguments as plain values; attributes name the arguments."""
    # A class without arguments of its own has `object`'s *args and **kwargs
    parameters = inspect.signature(type(descriptor).__init__).parameters.values()
    named = {
        each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    names = named - {"self", TRUST}
    return {
        "class": type(descriptor).__name__,
        "arguments": {name: getattr(descriptor, name) for name in sorted(names)},
    }


def in_words(descriptor: Any) -> str:
    """Return a descriptor's class and arguments in a line, to tell it from others."""
    described = describe(descriptor)
    arguments = ", ".join(f"{name}={value}" for name, value in described["arguments"].items())
    return f"{described['class']}({arguments})"


def rebuild(described: dict[str, Any]) -> Any:
    """Return the descriptor that `describe` described.

    Raises:
        UserError: Its class is none of `dofsuite.backbones`.
    """
    name = described["class"]
    if name not in dir(backbones):
        raise UserError(
            f"{name}: class: no network of dofsuite.backbones; pass the descriptor to from_export "
            "instead."
        )
    # JSON has no tuples.
    arguments = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in described["arguments"].items()
        if key not in (*REMOVED_ARGUMENTS, TRUST)
    }
    return getattr(backbones, name)(**arguments)


def exported_sdxl(folder: Path, backbone: Sdxl) -> SdxlModules:
    """Load an exported UNet with the codec and prompt encoder of the SDXL it was trained from.

    Args:
        folder: Holds `unet/` and `scheduler/`, and `codec/` for a small network.
        backbone: A small one is read from the folder alone. Of a pretrained one the VAE and text
            encoders are loaded, and never its UNet (10 GB).

    Raises:
        UserError: A part is missing or cannot be downloaded.
    """
    if isinstance(backbone, SmallSdxl):
        return SmallSdxl(**describe(backbone)["arguments"] | {"weights": str(folder)}).load()
    unet = from_pretrained(UNet2DConditionModel, str(folder), "unet", None, torch.bfloat16)
    if isinstance(backbone, PretrainedSdxl):
        return backbone.with_unet(unet, str(folder))
    return backbone.load()._replace(
        unet=unet.eval().requires_grad_(False), prediction=read_prediction(str(folder))
    )
