"""Refocus a photograph with stock diffusers: the whole recipe, without importing dofsuite.

python examples/stock_diffusers.py EXPORT PHOTO DEPTH X Y BOKEH OUT [BASE]

EXPORT is a refocus run's `export/`; DEPTH a gray image of the photograph's shape, nearer is
brighter; X, Y the point in focus as fractions of width and height; BOKEH the level. BASE is FLUX on
the hub or a folder; by default FLUX.1-dev.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch.nn.functional import interpolate, linear


def camera_token(export: Path, focus_point: tuple[float, float], bokeh_level: float):
    """The camera as prompt embeddings [1, k, e], and the empty prompt's pooled vector [1, p]."""
    config = json.loads((export / "camera_embedder" / "config.json").read_text())
    weights = load_file(export / "camera_embedder" / "diffusion_pytorch_model.safetensors")
    point = torch.tensor([focus_point])
    point = point * 2 - 1 if config["focus_range"] == "signed" else point
    numbers = torch.cat([point, torch.tensor([[bokeh_level / config["level_scale"]]])], dim=1)
    token = linear(numbers, weights["projector.weight"], weights["projector.bias"])
    if "text_tokens" in weights:  # the empty prompt's, where the adapter was trained with them
        token = torch.cat([token, weights["text_tokens"]])
    return token[None], weights["pooled_text"][None]


def pack(latent):
    """Latent [b, c, h, w] to tokens [b, h w / 4, 4 c], as FluxPipeline packs."""
    b, c, h, w = latent.shape
    patches = latent.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(b, h * w // 4, 4 * c)


def unpack(tokens, height: int, width: int):
    """The inverse of `pack` for a latent of height x width."""
    patches = tokens.reshape(len(tokens), height // 2, width // 2, -1, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)


@torch.no_grad()
def refocus(
    export: Path,
    base: str,
    photo,
    depth,
    focus_point: tuple[float, float],
    bokeh_level: float,
    steps: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cpu",
):
    """Display values [1, 3, h, w] and disparity [1, 1, h, w] in [0, 1] to the refocused image."""
    # Stock networks with the exported LoRA
    settings = json.loads((export / "refocus.json").read_text())
    if settings.get("conditions", "full") != "full":
        raise SystemExit(f"{export}: conditions: stock FLUX.1 runs adapters trained with 'full'.")
    options = {"torch_dtype": dtype}
    transformer = FluxTransformer2DModel.from_pretrained(base, subfolder="transformer", **options)
    vae = AutoencoderKL.from_pretrained(base, subfolder="vae", **options).to(device)
    transformer.load_lora_adapter(
        export, prefix="transformer", weight_name="pytorch_lora_weights.safetensors"
    )
    transformer.to(device)
    # About the trained number of pixels at the same aspect ratio, in whole tokens
    token_px = 2 * 2 ** (len(vae.config.block_out_channels) - 1)
    height, width = photo.shape[-2:]
    scale = settings["size_px"] / (height * width) ** 0.5
    size = [max(1, round(side * scale / token_px)) * token_px for side in (height, width)]
    if size != [height, width]:
        photo = interpolate(photo, size, mode="bicubic", antialias=True).clamp(0, 1)
        depth = interpolate(depth, size, mode="bilinear", antialias=True)
    # Disparity from 0 to 1; a level counts at the long side, a token at the square of training
    depth = (depth - depth.min()) / (depth.max() - depth.min()).clamp(min=1e-12)
    level = bokeh_level * (max(size) / settings["size_px"])
    token, pooled = camera_token(export, focus_point, level)
    # Latents of photograph and depth
    shift, factor = vae.config.shift_factor or 0.0, vae.config.scaling_factor
    reference, depth = (
        (vae.encode((2 * image - 1).to(device, dtype)).latent_dist.mode() - shift) * factor
        for image in (photo, depth.expand(-1, 3, -1, -1))
    )
    # Position ids (stream, row, column): noise 0, photograph 1, depth 2, as FLUX Kontext's
    h, w = reference.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(h // 2), torch.arange(w // 2), indexing="ij")
    streams = (0, 1, 2) if settings["position_ids"] == "kontext" else (0, 0, 0)
    grids = [torch.stack([torch.full_like(rows, k), rows, columns], dim=-1) for k in streams]
    img_ids = torch.cat([grid.reshape(-1, 3) for grid in grids]).float().to(device)
    # Euler steps along the velocity
    count = steps or settings["num_inference_steps"]
    scheduler = FlowMatchEulerDiscreteScheduler(shift=settings["time_shift"])
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / count, count))
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))
    latent, guidance = noise.to(device), None
    if transformer.config.guidance_embeds:
        guidance = torch.tensor([settings["guidance_embed"]], device=device)
    for now, then in zip(scheduler.sigmas[:-1], scheduler.sigmas[1:], strict=True):
        tokens = torch.cat([pack(latent), pack(reference.float()), pack(depth.float())], dim=1)
        velocity = transformer(
            hidden_states=tokens.to(dtype),
            encoder_hidden_states=token.to(device, dtype),
            pooled_projections=pooled.to(device, dtype),
            timestep=now[None].to(device),
            guidance=guidance,
            img_ids=img_ids,
            txt_ids=torch.zeros(token.shape[1], 3, device=device),
            return_dict=False,
        )[0]
        latent = latent + (then.item() - now.item()) * unpack(
            velocity[:, : h * w // 4].float(), h, w
        )
    image = vae.decode((latent / factor + shift).to(dtype), return_dict=False)[0]
    return ((image.float() + 1) / 2).clamp(0, 1).cpu()


def main(words: list[str]) -> None:
    export, photo_file, depth_file, x, y, bokeh, out, *base = words
    if Path(out).exists():
        raise SystemExit(f"{out}: it exists; choose another name.")
    photo, depth = (
        torch.from_numpy(np.array(image, dtype=np.float32)) / 255
        for image in (
            ImageOps.exif_transpose(Image.open(photo_file)).convert("RGB"),
            Image.open(depth_file).convert("L"),
        )
    )
    image = refocus(
        Path(export),
        base[0] if base else "black-forest-labs/FLUX.1-dev",
        photo.permute(2, 0, 1)[None],
        depth[None, None],
        (float(x), float(y)),
        float(bokeh),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    values = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(values).save(out)


if __name__ == "__main__":
    main(sys.argv[1:])
