"""What a run leaves for use: the adapter or a base's weights, as safetensors in folders that diffusers reads.

An adapter's folder holds `pytorch_lora_weights.safetensors` (stock diffusers loads it),
`camera_embedder/` (the camera token; apart, because stock loaders misread foreign tensors in a LoRA
file), `refocus.json` (which base, and the settings that training and inference share) and a model
card.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dofsuite import backbones
from dofsuite.backbones import Backbone, PretrainedFlux
from dofsuite.backbones.descriptors import describe, rebuild
from dofsuite.backbones.flux.lora import load_lora, save_lora
from dofsuite.backbones.hub import exported_part
from dofsuite.errors import UserError
from dofsuite.refocus.camera_embedder import CameraEmbedder

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

    from dofsuite.refocus.module import Refocus

SETTINGS = "refocus.json"
SETTINGS_WRITTEN = (
    "backbone",
    "guidance",
    "position_ids",
    "num_inference_steps",
    "time_shift",
    "size_px",
)
"""What every export states; `uses_depth` came later."""
LORA = "pytorch_lora_weights.safetensors"
CAMERA = "camera_embedder"

CARD = """# A refocus adapter

Trained with dofsuite (DiffCamera, arXiv 2509.26599) on {base}.

    python -m dofsuite.refocus PHOTO --focus 0.5,0.5 --bokeh 10 --model THIS_FOLDER -o OUT.png

The adapter is a derivative of its base: the base's licence holds for it{licence}.
"""


def export(module: Refocus, folder: Path) -> None:
    """Write adapter, camera token, settings and card; or, for a run without an adapter, the whole base."""
    folder.mkdir(parents=True, exist_ok=True)
    if module.lora is None:
        _export_base(module, folder)
        return
    save_lora(module.transformer, folder)
    module.camera.save_pretrained(folder / CAMERA)
    settings = {
        "backbone": describe(module.backbone),
        "guidance": module.guidance,
        "position_ids": module.position_ids,
        "num_inference_steps": module.num_inference_steps,
        "time_shift": module.time.shift,
        "size_px": module.trained_size_px,
        "sees_depth": module.uses_depth,
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
    flux = isinstance(module.backbone, PretrainedFlux)
    licence = " (FLUX.1-dev: non-commercial)" if flux else ""
    (folder / "README.md").write_text(
        CARD.format(base=f"`{describe(module.backbone)}`", licence=licence)
    )


def _export_base(module: Refocus, folder: Path) -> None:
    """Write all of the transformer's weights in 16 bit, and the codec where it is ours."""
    transformer = copy.deepcopy(module.transformer)
    for parameter in transformer.parameters():
        parameter.data = parameter.data.half()
    transformer.save_pretrained(folder / "transformer")
    if isinstance(module.codec, backbones.SpaceToDepthCodec):
        module.codec.save_pretrained(folder / "codec")


def read_settings(folder: Path) -> dict[str, Any]:
    """Read an export's settings; a run folder stands for its export.

    Raises:
        UserError: The folder holds no adapter, or its settings cannot be read.
    """
    for place in (folder, folder / "export"):
        if (place / SETTINGS).is_file():
            settings = _settings_in(place / SETTINGS)
            uses_depth = settings.pop("sees_depth", True)
            return settings | {"uses_depth": uses_depth, "folder": place}
    raise UserError(
        f"{folder}: --model: holds no refocus adapter ({SETTINGS} is missing); train one: make quickstart."
    )


def _settings_in(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    missing = [
        name for name in SETTINGS_WRITTEN if not isinstance(settings, dict) or name not in settings
    ]
    if missing:
        raise _unreadable(file, f"without {', '.join(missing)}")
    return settings


def backbone_of(settings: dict[str, Any]) -> Backbone:
    """Return the backbone that an export was trained on.

    Raises:
        UserError: The settings describe none.
    """
    try:
        return rebuild(settings["backbone"])
    except (AttributeError, KeyError, TypeError) as error:
        raise _unreadable(settings["folder"] / SETTINGS, f"backbone: {error}") from error


def read_camera(folder: Path) -> CameraEmbedder:
    """Read an export's camera token.

    Raises:
        UserError: It is missing or damaged.
    """
    return exported_part(CameraEmbedder, folder, CAMERA)


def read_adapter(transformer: FluxTransformer2DModel, folder: Path) -> None:
    """Put an export's adapter on its base.

    Raises:
        UserError: It is missing or damaged, or belongs to another base.
    """
    if not (folder / LORA).is_file():
        raise _unreadable(folder / LORA, "no such file")
    try:
        load_lora(transformer, folder)
    except Exception as error:  # safetensors, diffusers and PEFT each have their own
        raise _unreadable(folder / LORA, error) from error


def _unreadable(file: Path, reason: object) -> UserError:
    first = (str(reason).splitlines() or ["no reason given"])[0].rstrip(".")
    return UserError(
        f"{file}: --model: it cannot be read ({first[:160]}); copy the export again from its run."
    )
