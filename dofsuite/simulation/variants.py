"""All variants of one image: rendered from shared layers, encoded, written into its folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.backbones import Codec
from dofsuite.data.shards import new_folder
from dofsuite.files import flush_folder, write_bytes, write_json
from dofsuite.images import encode_jpeg, encode_png
from dofsuite.optics import DisparityLayers, display_to_linear, linear_to_display
from dofsuite.simulation.config import SimulateConfig
from dofsuite.simulation.scenes import Scene

RECORD = "variants.json"
DISPARITY = "disparity.png"
LATENTS = "latents.safetensors"
ALL_IN_FOCUS = "all_in_focus"
EXTENSIONS = {"jpeg": ".jpg", "png": ".png", "latents": ""}


class Variant(NamedTuple):
    """A camera; level 0 is the image in focus everywhere, whose plane means nothing."""

    focus_disparity: float
    bokeh_level: float

    @property
    def name(self) -> str:
        if self.bokeh_level == 0:
            return ALL_IN_FOCUS
        return f"focus_{self.focus_disparity:g}_bokeh_{self.bokeh_level:g}"


def variants_of(config: SimulateConfig) -> list[Variant]:
    """Return the image itself, then every plane of every level.

    By level: variants of small radii are rendered by taps, and a chunk of both kinds twice.
    """
    grid = [Variant(plane, level) for level in config.levels for plane in config.planes]
    return [Variant(0.0, 0.0), *grid]


@torch.no_grad()
def rendered(
    image: Float[Tensor, "1 3 h w"],
    disparity: Float[Tensor, "1 1 h w"],
    variants: list[Variant],
    config: SimulateConfig,
    device: torch.device,
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Render variants in their order; they share the layers' spectra.

    Args:
        image: Display values, all in focus; level 0 returns them as they are.
        disparity: 0 far to 1 near.
        variants: The cameras.
        config: Gamma, layers and reference width; a level counts at the image's long side.
        device: Where it is rendered.
    """
    # Light in layers
    ratio = max(image.shape[-2:]) / config.reference_width_px
    layers = DisparityLayers(
        display_to_linear(image.to(device), config.gamma),
        disparity.to(device),
        config.layers,
        largest_radius_px=max(variant.bokeh_level for variant in variants) * ratio,
    )
    # The image itself, then a product of the spectra for each camera
    blurred = [variant for variant in variants if variant.bokeh_level > 0]
    yield from (image[0] for _ in range(len(variants) - len(blurred)))
    if blurred:
        levels = torch.tensor([[variant.bokeh_level] for variant in blurred])
        planes = torch.tensor([[variant.focus_disparity] for variant in blurred])
        for chunk in layers.render_variants(
            levels, planes, reference_width_px=config.reference_width_px
        ):
            yield from linear_to_display(chunk[:, 0], config.gamma).clamp(0, 1)


def write_variants(
    folder: Path,
    scene: Scene,
    config: SimulateConfig,
    codec: Codec | None,
    device: torch.device,
    step: Callable[[], object],
) -> None:
    """Write all variants of an image into a new folder, which appears once it is complete.

    Args:
        folder: The image's.
        scene: The image.
        config: The grid and the format.
        codec: Of latents.
        device: Where it is rendered and encoded.
        step: Called after every variant.

    Raises:
        UserError: The image cannot be read or the disk is full; then nothing of it is left.
    """
    image, disparity = scene.read()
    variants, latents = variants_of(config), []
    with new_folder(folder) as temporary:
        # Variants
        for variant, picture in zip(
            variants, rendered(image, disparity, variants, config, device), strict=True
        ):
            if codec is not None:
                latents.append(encoded_latent(codec, picture, device))
            else:
                (temporary / file_name(variant, config)).write_bytes(encoded(picture, config))
            step()
        if latents:
            from safetensors.torch import save

            write_bytes(temporary / LATENTS, save({"latents": torch.stack(latents)}))
        # On disk, together: one by one, hundreds of small files take longer than their rendering
        for path in temporary.iterdir():
            flush_folder(path)
        # Disparity, and which camera is which
        levels = (disparity[0, 0] * 65535).round().numpy().astype(np.uint16)
        write_bytes(temporary / DISPARITY, encode_png(levels))
        height, width = image.shape[-2:]
        write_json(
            temporary / RECORD,
            {
                "name": scene.name,
                "licence": scene.licence,
                "width_px": width,
                "height_px": height,
                "variants": [
                    {
                        "file": LATENTS if latents else file_name(variant, config),
                        **({"row": row} if latents else {}),
                        "focus_disparity": variant.focus_disparity,
                        "bokeh_level": variant.bokeh_level,
                    }
                    for row, variant in enumerate(variants)
                ],
            },
        )


def file_name(variant: Variant, config: SimulateConfig) -> str:
    return f"{variant.name}{EXTENSIONS[config.file_format]}"


def encoded(picture: Float[Tensor, "3 h w"], config: SimulateConfig) -> bytes:
    """Encode a variant as JPEG or PNG."""
    if config.file_format == "png":
        return encode_png(picture)
    return encode_jpeg(picture, config.quality)


@torch.no_grad()
def encoded_latent(
    codec: Codec, picture: Float[Tensor, "3 h w"], device: torch.device
) -> Float[Tensor, "c lh lw"]:
    """Encode a variant, as training does, to bfloat16 on the CPU."""
    return codec.encode(picture[None].to(device).float() * 2 - 1)[0].to(torch.bfloat16).cpu()
