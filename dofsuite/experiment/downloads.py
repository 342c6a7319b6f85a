"""What a run will download, and under which licence."""

from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from dofsuite.backbones import PretrainedFlux, PretrainedKlein, PretrainedSdxl
from dofsuite.backbones.descriptors import describe
from dofsuite.backbones.hub import HubWeights
from dofsuite.backbones.model_card import licence_of_base
from dofsuite.model_terms import terms_of_model

# GB of each part, as published.
PUBLISHED_GB = {
    "black-forest-labs/FLUX.1-dev": {
        "transformer": 23.8,
        "vae": 0.17,
        "text_encoder": 0.25,
        "text_encoder_2": 9.5,
    },
    "black-forest-labs/FLUX.2-klein-base-4B": {"transformer": 7.75, "vae": 0.17},
    "black-forest-labs/FLUX.2-klein-4B": {"transformer": 7.75, "vae": 0.17},
    "stabilityai/stable-diffusion-xl-base-1.0": {
        "unet": 10.3,
        "vae": 0.33,
        "text_encoder": 0.49,
        "text_encoder_2": 2.8,
    },
    "madebyollin/sdxl-vae-fp16-fix": {"": 0.33},
    "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf": {"": 0.1},
    "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf": {"": 0.1},
    "ZhengPeng7/BiRefNet": {"": 0.44},
}


def download_lines(model: Any) -> list[str]:
    """Say for every network from the hub what is missing in its cache, in GB."""
    return [line for hub in _hub_weights(model) for line in _lines_of(hub)]


def licence_lines(model: Any) -> list[str]:
    """Say what the licence of a base from the hub or a folder means for what is trained on it."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, HubWeights):
        return []
    return [f"base: {licence_of_base(describe(backbone))}"]


def _hub_weights(model: Any) -> list[HubWeights]:
    return [value for value in vars(model).values() if isinstance(value, HubWeights)]


def _lines_of(hub: HubWeights) -> list[str]:
    lines = [_line(hub.path, parts_of(hub), hub.revision)]
    if isinstance(hub, PretrainedSdxl) and hub.vae is not None:
        lines.append(_line(hub.vae, [""], None))
    return lines


def parts_of(hub: HubWeights) -> list[str]:
    """Return the parts of a model in diffusers layout that a run reads."""
    if isinstance(hub, PretrainedFlux):
        tokens = ["text_encoder_2"] if hub.empty_prompt_tokens else []
        return ["transformer", "vae", "text_encoder", *tokens]
    if isinstance(hub, PretrainedKlein):
        return ["transformer", "vae"]
    if isinstance(hub, PretrainedSdxl):
        return ["unet", "text_encoder", "text_encoder_2", *([] if hub.vae else ["vae"])]
    return [""]


def _line(path: str, parts: list[str], revision: str | None) -> str:
    # A folder, or a model that is in the cache
    if Path(path).exists():
        return f"weights: {path}, a folder: nothing to download"
    missing = [part for part in parts if not _is_cached(path, part, revision)]
    if not missing:
        return f"weights: {path}: in the hub's cache"
    # What is left to download
    if path not in PUBLISHED_GB:
        return f"weights: {path}: to download; its size is not known here"
    total_gb = sum(PUBLISHED_GB[path][part] for part in missing)
    terms = terms_of_model(path)
    licence = f"; licence: {terms.licence}" if terms else ""
    return f"weights: {path}: {total_gb:.1f} GB to download{licence}"


def _is_cached(path: str, part: str, revision: str | None) -> bool:
    name = f"{part}/config.json".lstrip("/")
    return isinstance(try_to_load_from_cache(path, name, revision=revision), str)
