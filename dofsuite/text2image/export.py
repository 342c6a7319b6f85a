"""What a text-to-image run leaves for use: safetensors in folders that diffusers reads.

`unet/` is the generator, in stock layout: stock diffusers samples from it with the `scheduler/`
beside it. Further: `exif_embedder/` (of an EXIF-conditioned generator; apart, because stock loaders
know no such weights), `codec/` (a small network's), `focus_predictor/` (with a lens),
`text2image.json` (see `settings`), a model card, and `teacher/` where the run trained one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from dofsuite.backbones import Prediction, SpaceToDepthCodec
from dofsuite.backbones.codec import Codec
from dofsuite.backbones.model_card import model_card
from dofsuite.backbones.sdxl.adapters import has_lora, merge_lora, save_unet_lora
from dofsuite.backbones.sdxl.prediction_type import save_scheduler
from dofsuite.errors import UserError
from dofsuite.text2image.camera.exif import EXIF_FOLDER, ExifTimeEmbedding, without_exif
from dofsuite.text2image.settings import Text2ImageSettings
from dofsuite.training.sharding.fsdp import gather_to_cpu

CARD = """# A few-step generator{with_lens}

Trained with dofsuite (arXiv 2510.06215) from {base}.

    python -m dofsuite.text2image "PROMPT" --f-number 1.8 2.8 4 5.6 8 11 16 22 \\
        --model THIS_FOLDER -o DIR

`unet/` is a `UNet2DConditionModel` in diffusers' layout{exif}. In a stock
`StableDiffusionXLPipeline` of its base it wants
`LCMScheduler.from_pretrained(THIS_FOLDER, subfolder="scheduler")`, `timesteps={few_steps}` and
`guidance_scale=1`.{teacher}

The weights are a derivative of their base: the base's licence holds for them{licence}.
"""

TEACHER = """

`teacher/` is the real score that this run trained, for further runs to start from: {start}."""


class ExportedNetworks(NamedTuple):
    generator: Any
    teacher: Any  # None where the run trained none
    focus: Any  # None without a lens


def export(
    networks: ExportedNetworks | None,
    settings: Text2ImageSettings,
    codec: Codec,
    prediction: Prediction,
    folder: Path,
) -> None:
    """Write networks, settings and card; bfloat16 where the base is a full-size SDXL.

    Raises:
        UserError: The weights are sharded, and training has not ended, which gathers them.
    """
    if networks is None:
        raise UserError(
            "trainer.strategy: sharded weights can be exported when training has ended."
        )
    dtype = export_dtype(codec)
    folder.mkdir(parents=True, exist_ok=True)

    # The generator, and the teacher that the run trained, each with scheduler and codec.
    for name, place in (("generator", folder), ("teacher", folder / "teacher")):
        unet = getattr(networks, name)
        if unet is not None:
            save_unet(unet, name in settings.exif_conditioned, dtype, place)
            save_scheduler(prediction, place)
            if isinstance(codec, SpaceToDepthCodec):
                codec.save_pretrained(place / "codec")

    # The camera, and what inference must know.
    if networks.focus is not None:
        networks.focus.save_pretrained(folder / "focus_predictor")
    settings.write(folder)
    card = card_of(settings, isinstance(codec, SpaceToDepthCodec), networks.teacher is not None)
    (folder / "README.md").write_text(card)


def gather(
    networks: ExportedNetworks, meta_networks: Mapping[str, nn.Module], codec: Codec, keep: bool
) -> ExportedNetworks | None:
    """Gather sharded networks on the CPU, in the export's dtype; None unless `keep`.

    Collective: must be called on all ranks.
    """
    copies = []
    for name, network in networks._asdict().items():
        # Adapters are merged in their own precision.
        keeps_dtype = name == "focus" or (network is not None and has_lora(network))
        dtype = None if keeps_dtype else export_dtype(codec)
        copies.append(network and gather_to_cpu(network, meta_networks[name], dtype, keep))
    return ExportedNetworks(*copies) if keep else None


def export_dtype(codec: Codec) -> torch.dtype:
    return torch.float32 if isinstance(codec, SpaceToDepthCodec) else torch.bfloat16


def save_unet(unet: Any, is_exif_conditioned: bool, dtype: torch.dtype, folder: Path) -> None:
    """Write `unet/` in diffusers' stock layout, and the EXIF embedding apart if it is used.

    Of a UNet with LoRA the adapters are written too, and merged in `unet/`.
    """
    unet = gather_to_cpu(unet, unet, None if has_lora(unet) else dtype, keep=True)
    if has_lora(unet):
        save_unet_lora(unet, folder)
        merge_lora(unet)
        unet = gather_to_cpu(unet, unet, dtype, keep=True)
    if isinstance(unet.time_embedding, ExifTimeEmbedding):
        embedder = without_exif(unet)
        if is_exif_conditioned:
            embedder.save_pretrained(folder / EXIF_FOLDER)
    unet.save_pretrained(folder / "unet")


def card_of(settings: Text2ImageSettings, is_small: bool, has_teacher: bool) -> str:
    start = (
        'SmallSdxl(weights="THIS_FOLDER/teacher")'
        if is_small
        else "put its unet/ into a copy of the base's folder"
    )
    exif = ", `exif_embedder/` what conditions it on the camera"
    text = CARD.format(
        with_lens="" if settings.lens is None else " with a lens",
        base="{base}",
        exif=exif if settings.is_exif_conditioned else "",
        few_steps=list(settings.few_steps),
        teacher=TEACHER.format(start=start) if has_teacher else "",
        licence="{licence}",
    )
    return model_card(text, settings.backbone, "finetune", "text-to-image", ["dmd2"])
