"""The published architectures at full size with random weights, for counting and timing.

They are built on torch's current default device, which may be `meta`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, UNet2DConditionModel
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from dofsuite.backbones import Backbone as Flux
from dofsuite.backbones import Depth, FluxModules, Sdxl, SdxlModules, VaeCodec, WordEncoder
from dofsuite.backbones.perception.depth import NEAREST_M
from dofsuite.backbones.perception.frozen import DensePrediction

KL_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}

FLUX1_DEV_VAE = KL_VAE | {
    "latent_channels": 16,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

SDXL_VAE = KL_VAE | {"latent_channels": 4, "sample_size": 1024, "scaling_factor": 0.13025}

SDXL_UNET = {
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}

DEPTH_ANYTHING = {
    "small": (384, 6, 12, (3, 6, 9, 12), (48, 96, 192, 384), 64),
    "base": (768, 12, 12, (3, 6, 9, 12), (96, 192, 384, 768), 128),
    "large": (1024, 16, 24, (5, 12, 18, 24), (256, 512, 1024, 1024), 256),
}
"""Width, heads, layers, output layers, neck widths, fusion width."""


@contextmanager
def default_dtype(name: str) -> Iterator[None]:
    """Build networks in a dtype from the start: a float32 copy of them may not fit in memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class RandomFlux(Flux):
    """FLUX.1-dev."""

    def load(self) -> FluxModules:
        with default_dtype("bfloat16"):
            transformer = FluxTransformer2DModel(guidance_embeds=True)
            codec = VaeCodec(AutoencoderKL(**FLUX1_DEV_VAE))
        pooled = torch.zeros(transformer.config.pooled_projection_dim)
        return FluxModules(transformer.eval().requires_grad_(False), codec, pooled)


class RandomSdxl(Sdxl):
    """SDXL-base, with a word encoder of SDXL's shapes."""

    def __init__(self, dtype: str = "float32", vae_dtype: str = "bfloat16") -> None:
        self.dtype, self.vae_dtype = dtype, vae_dtype

    def load(self) -> SdxlModules:
        with default_dtype(self.dtype):
            unet = UNet2DConditionModel(**SDXL_UNET)
        with default_dtype(self.vae_dtype):
            codec = VaeCodec(AutoencoderKL(**SDXL_VAE))
        prompts = WordEncoder(num_tokens=77, token_dim=2048, pooled_dim=1280)
        return SdxlModules(unet.eval().requires_grad_(False), codec, prompts)


class RandomDepth(Depth):
    """Metric Depth Anything V2 (indoor, 20 m)."""

    def __init__(self, size: str = "small") -> None:
        self.size = size

    def load(self) -> DensePrediction:
        width, heads, layers, outputs, neck, fusion = DEPTH_ANYTHING[self.size]
        encoder = Dinov2Config(
            image_size=518,
            patch_size=14,
            hidden_size=width,
            num_attention_heads=heads,
            num_hidden_layers=layers,
            out_indices=list(outputs),
            reshape_hidden_states=False,
        )
        config = DepthAnythingConfig(
            backbone_config=encoder,
            reassemble_hidden_size=width,
            neck_hidden_sizes=list(neck),
            fusion_hidden_size=fusion,
            depth_estimation_type="metric",
            max_depth=20,
        )
        return DensePrediction(DepthAnythingForDepthEstimation(config), 518, NEAREST_M)
