"""What a run leaves for use: the adapter or a base's weights, as safetensors in folders that diffusers reads.

An adapter's folder holds `pytorch_lora_weights.safetensors` (stock diffusers loads it), `camera_embedder/` (the
camera token; apart, because stock loaders misread foreign tensors in a LoRA file), `refocus.json` (which base, and
the settings that training and inference share) and a model card.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dofsuite import backbones
from dofsuite.backbones import Backbone, PretrainedFlux
from dofsuite.backbones.exported import describe, rebuild
from dofsuite.backbones.lora import save_lora
from dofsuite.errors import UserError

if TYPE_CHECKING:
    from dofsuite.refocus.module import Refocus

SETTINGS = "refocus.json"

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
    module.camera.save_pretrained(folder / "camera_embedder")
    settings = {
        "backbone": describe(module.backbone),
        "guidance": module.guidance,
        "position_ids": module.position_ids,
        "num_inference_steps": module.num_inference_steps,
        "time_shift": module.time.shift,
        "size_px": module.trained_size_px,
        "sees_depth": module.sees_depth,
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
    flux = isinstance(module.backbone, PretrainedFlux)
    licence = " (FLUX.1-dev: non-commercial)" if flux else ""
    (folder / "README.md").write_text(CARD.format(base=f"`{describe(module.backbone)}`", licence=licence))


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
        UserError: The folder holds no adapter.
    """
    for place in (folder, folder / "export"):
        if (place / SETTINGS).is_file():
            return {"sees_depth": True} | json.loads((place / SETTINGS).read_text()) | {"folder": place}
    raise UserError(f"{folder}: --model: holds no refocus adapter ({SETTINGS} is missing); train one: make quickstart.")


def backbone_of(settings: dict[str, Any]) -> Backbone:
    """Return the backbone that an export was trained on."""
    return rebuild(settings["backbone"])
