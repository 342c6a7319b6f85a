"""Published weights of an SDXL UNet: a folder, a bare file, or a file on the hub."""

import pickle
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dofsuite.backbones.hub import from_pretrained, reason_of
from dofsuite.errors import UserError
from dofsuite.state_dicts import first_difference

FILES = (".safetensors", ".bin", ".pt", ".pth")


def load_unet_weights(unet: nn.Module, source: str, key: str) -> None:
    """Copy published weights into a UNet of the same architecture, in its own dtype.

    Args:
        unet: Of stock layout.
        source: A folder in diffusers layout (a model's, or its `unet/`), a state dict in a file, a
            hub id in diffusers layout, or `OWNER/NAME/FILE` on the hub, such as
            `tianweiy/DMD2/dmd2_sdxl_4step_unet_fp16.bin`.
        key: Key of the experiment that names it, for messages.

    Raises:
        UserError: It cannot be read, or its names or shapes are not the UNet's.
    """
    weights = read_unet_weights(source, key)
    difference = first_difference(unet.state_dict(), weights)
    if difference is not None:
        name = difference.name
        if difference.here is None:
            what = f"has {name}, which this UNet has not"
        elif difference.there is None:
            what = f"has no {name}"
        else:
            what = f"has {name} of the shape {difference.there}, which is {difference.here} here"
        raise UserError(
            f"{key}: {source} {what}; name a whole UNet of the architecture of model.backbone."
        )
    unet.load_state_dict(weights)


def read_unet_weights(source: str, key: str) -> dict[str, Tensor]:
    """Return the state dict that `source` names (see `load_unet_weights`).

    Raises:
        UserError: It cannot be read.
    """
    path, parts = Path(source), source.split("/")
    if path.is_dir():
        folder = path / "unet" if (path / "unet").is_dir() else path
        return _network_weights(str(folder), "", key)
    # A file on the hub, or a model there
    if not path.exists() and len(parts) == 2:
        return _network_weights(source, "unet", key)
    if not path.exists() and len(parts) > 2 and path.suffix in FILES:
        try:
            path = Path(hf_hub_download("/".join(parts[:2]), "/".join(parts[2:])))
        except Exception as error:
            raise UserError(f"{key}: {source}: {reason_of(source, error)}") from error
    if not path.is_file() or path.suffix not in FILES:
        raise UserError(
            f"{key}: {source} is no folder, no file of {', '.join(FILES)} and no hub id; name the "
            "weights of a UNet."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"{key}: {source} holds no weights by name that can be read without running code; "
            "download it again, or name another file."
        ) from error


def _network_weights(path: str, part: str, key: str) -> dict[str, Tensor]:
    try:
        network = from_pretrained(UNet2DConditionModel, path, part, None, torch.float32)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    weights: dict[str, Tensor] = network.state_dict()
    return weights
