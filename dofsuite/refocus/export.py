"""A run's export: the adapter or a base model's weights, as safetensors that diffusers reads.

An adapter's folder holds `pytorch_lora_weights.safetensors` (stock diffusers loads it),
`camera_embedder/` (the camera token; separate, because stock loaders misread foreign tensors in a
LoRA file), `refocus.json` (`RefocusSettings`) and a model card.
"""

import copy
from pathlib import Path
from typing import Any

import torch

from dofsuite.backbones import Codec, SpaceToDepthCodec, family_of
from dofsuite.backbones.lora import load_lora, save_lora
from dofsuite.backbones.model_card import model_card
from dofsuite.refocus.camera_embedder import CameraEmbedder
from dofsuite.refocus.settings import RefocusSettings, unreadable

LORA = "pytorch_lora_weights.safetensors"
CAMERA = "camera_embedder"

CARD = """# A refocus adapter

Trained with dofsuite (DiffCamera, arXiv 2509.26599) on {base}.

    python -m dofsuite.refocus PHOTO --focus 0.5,0.5 --bokeh 10 --model THIS_FOLDER -o OUT.png

The adapter is a derivative of its base: the base's licence holds for it{licence}.
"""
# Where the conditions are not the stock transformer's.
CLEAN_CARD = """
It was trained with `conditions: {conditions}`: {pipelines}.
"""
NO_STOCK = "`RefocusPipeline` of dofsuite runs it, and no stock pipeline can"
STOCK_TOO = "beside `RefocusPipeline` of dofsuite, `{pipeline}` of diffusers runs it"


def export_adapter(
    folder: Path,
    transformer: Any,
    camera: CameraEmbedder,
    settings: RefocusSettings,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the adapter in `dtype`; the camera token stays in float32 (16 kB)."""
    folder.mkdir(parents=True, exist_ok=True)
    save_lora(transformer, folder, dtype)
    camera.save_pretrained(folder / CAMERA)
    settings.write(folder)
    card = model_card(CARD, settings.backbone, "adapter", "image-to-image", ["lora"])
    if settings.conditions != "full":
        stock = family_of(transformer).cached_pipeline if settings.conditions == "cached" else None
        pipelines = STOCK_TOO.format(pipeline=stock) if stock else NO_STOCK
        card += CLEAN_CARD.format(conditions=settings.conditions, pipelines=pipelines)
    (folder / "README.md").write_text(card)


def export_base(folder: Path, transformer: Any, codec: Codec) -> None:
    """Write all weights of the transformer in float16, and the codec if it is a small one."""
    half = copy.deepcopy(transformer)
    # Parameter by parameter: buffers keep their dtype.
    for parameter in half.parameters():
        parameter.data = parameter.data.half()
    half.save_pretrained(folder / "transformer")
    if isinstance(codec, SpaceToDepthCodec):
        codec.save_pretrained(folder / "codec")


def read_adapter(transformer: Any, export: Path) -> None:
    """Load an export's adapter into its base model.

    Raises:
        UserError: It is missing or damaged, or belongs to another base.
    """
    if not (export / LORA).is_file():
        raise unreadable(export / LORA, "no such file")
    try:
        load_lora(transformer, export)
    except Exception as error:  # safetensors, diffusers and PEFT each raise their own
        raise unreadable(export / LORA, error) from error
