"""Refocus a photograph with stock diffusers alone: no import of dofsuite.

python examples/stock_klein.py EXPORT PHOTO DEPTH X Y BOKEH OUT [BASE [STEPS]]

EXPORT is the export of a run on FLUX.2 klein, such as `refocus_klein_512`. DEPTH is a gray picture,
nearer is brighter; X, Y the point in focus as fractions of width and height; BOKEH the level. BASE
is FLUX.2 klein on the hub or a folder. The photograph and its depth are the pipeline's two
reference images, the camera is its prompt. An adapter trained with `conditions: cached` runs in
diffusers' KV pipeline, which reads them once.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinKVPipeline,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch.nn.functional import linear

TOKEN_PX = 16


def camera_token(export: Path, focus_point: tuple[float, float], bokeh_level: float):
    """The camera as prompt embeddings [1, 1, e]."""
    config = json.loads((export / "camera_embedder" / "config.json").read_text())
    weights = load_file(export / "camera_embedder" / "diffusion_pytorch_model.safetensors")
    point = torch.tensor([focus_point])
    point = point * 2 - 1 if config["focus_range"] == "signed" else point
    numbers = torch.cat([point, torch.tensor([[bokeh_level / config["level_scale"]]])], dim=1)
    return linear(numbers, weights["projector.weight"], weights["projector.bias"])[None]


def refocus(
    export: Path,
    base: str,
    photo: Image.Image,
    depth: Image.Image,
    focus_point: tuple[float, float],
    bokeh_level: float,
    steps: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cpu",
    output_type: str = "pil",
):
    """The refocused photograph."""
    # The stock pipeline without its text encoder, with the exported LoRA
    settings = json.loads((export / "refocus.json").read_text())
    options = {"torch_dtype": dtype}
    conditions = settings.get("conditions", "full")
    if conditions == "time_zero":
        raise SystemExit(f"{export}: conditions: no pipeline of diffusers runs 'time_zero'.")
    pipeline = Flux2KleinKVPipeline if conditions == "cached" else Flux2KleinPipeline
    pipe = pipeline(
        FlowMatchEulerDiscreteScheduler(shift=settings["time_shift"]),
        AutoencoderKLFlux2.from_pretrained(base, subfolder="vae", **options),
        None,
        None,
        Flux2Transformer2DModel.from_pretrained(base, subfolder="transformer", **options),
    )
    pipe.load_lora_weights(export)
    pipe.to(device)
    # About the trained number of pixels at the same aspect ratio, in whole tokens
    scale = settings["size_px"] / (photo.width * photo.height) ** 0.5
    size = [max(1, round(side * scale / TOKEN_PX)) * TOKEN_PX for side in photo.size]
    photo, depth = (image.resize(size, Image.Resampling.BICUBIC) for image in (photo, depth))
    # Disparity from 0 to 1; a level counts at the long side, a token at the square of training
    depth = ImageOps.autocontrast(depth.convert("L")).convert("RGB")
    level = bokeh_level * (max(size) / settings["size_px"])
    # One call: the camera is the prompt, photograph and depth are the references
    noise = torch.randn(
        (1, 32, size[1] // 8, size[0] // 8), generator=torch.Generator().manual_seed(seed)
    )
    return pipe(
        image=[photo, depth],
        prompt_embeds=camera_token(export, focus_point, level).to(device, dtype),
        latents=torch.nn.functional.pixel_unshuffle(noise, 2),
        num_inference_steps=steps or settings["num_inference_steps"],
        output_type=output_type,
        **({} if conditions == "cached" else {"guidance_scale": 1.0}),
    ).images[0]


def main(words: list[str]) -> None:
    export, photo, depth, x, y, bokeh, out, *more = words
    if Path(out).exists():
        raise SystemExit(f"{out}: it exists; choose another name.")
    image = refocus(
        Path(export),
        more[0] if more else "black-forest-labs/FLUX.2-klein-base-4B",
        ImageOps.exif_transpose(Image.open(photo)).convert("RGB"),
        Image.open(depth),
        (float(x), float(y)),
        float(bokeh),
        steps=int(more[1]) if more[1:] else None,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    image.save(out)
    print(f"{out}: {image.width}x{image.height}")


if __name__ == "__main__":
    main(sys.argv[1:])
