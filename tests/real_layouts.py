"""Folders in the layout in which SDXL, FLUX.1-dev and FLUX.2 klein are published, of networks small
enough for a test, and a photographer's folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TEXT = {
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "vocab_size": 190,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def tokenizer(**options: str) -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{letter}</w>" for letter in letters]]
    vocabulary = {word: n for n, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, **options)


def vae(**options: float) -> AutoencoderKL:
    """Four levels, as both have."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        **options,
    )


def sdxl_scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
        interpolation_type="linear",
    )


def save_sdxl(folder: Path) -> None:
    """SDXL base 1.0's parts and precisions: text encoders in float16, "!" pads tokenizer_2."""
    torch.manual_seed(0)
    StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(hidden_size=16, num_hidden_layers=3, **TEXT)
        ).half(),
        text_encoder_2=CLIPTextModelWithProjection(
            CLIPTextConfig(
                hidden_size=24, num_hidden_layers=3, projection_dim=20, hidden_act="gelu", **TEXT
            )
        ).half(),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(pad_token="!"),
        unet=UNet2DConditionModel(
            sample_size=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 32, 32),
            layers_per_block=1,
            transformer_layers_per_block=(1, 1, 2),
            norm_num_groups=8,
            attention_head_dim=(2, 4, 4),
            cross_attention_dim=16 + 24,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6 * 8,
        ),
        scheduler=sdxl_scheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    # As published: keys of another scheduler stand in the file.
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text().replace("{", '{\n  "skip_prk_steps": true,', 1))


def save_flux(folder: Path) -> None:
    """FLUX.1-dev's parts that refocusing loads: no T5."""
    torch.manual_seed(0)
    FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=24,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    ).to(torch.bfloat16).save_pretrained(folder / "transformer")
    vae(
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).to(torch.bfloat16).save_pretrained(folder / "vae")
    CLIPTextModel(CLIPTextConfig(hidden_size=24, num_hidden_layers=2, **TEXT)).to(
        torch.bfloat16
    ).save_pretrained(folder / "text_encoder")
    tokenizer().save_pretrained(folder / "tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(
        folder / "scheduler"
    )


def save_klein(folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """FLUX.2 klein's parts that refocusing loads: no text encoder."""
    torch.manual_seed(0)
    Flux2Transformer2DModel(
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=32,
        guidance_embeds=False,
        axes_dims_rope=(4, 4, 4, 4),
    ).to(dtype).save_pretrained(folder / "transformer")
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 16, 16), norm_num_groups=4)
    vae.bn.running_mean.normal_(std=0.2)
    vae.bn.running_var.uniform_(0.1, 2.0)
    vae.to(dtype).save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(
        folder / "scheduler"
    )


def save_photographs(folder: Path, count: int, seed: int, with_depth: bool = False) -> None:
    """JPEGs of 96 x 64 px as an APS-C camera writes them, with captions (and depth maps)."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        exif = Image.Exif()
        exif.get_ifd(0x8769).update({0x829D: 1.8 + number, 0x920A: 35.0, 0xA405: 52})
        pixels = generator.integers(0, 256, (8, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        name = f"photo{number}"
        Image.fromarray(pixels).save(folder / f"{name}.jpg", exif=exif.tobytes())
        (folder / f"{name}.txt").write_text(f"photograph {number} of {seed}, a box on the left")
        if with_depth:
            ramp = np.linspace(0, 255, 96).round().astype(np.uint8)
            Image.fromarray(np.tile(ramp, (64, 1))).save(folder / f"{name}_depth.png")
