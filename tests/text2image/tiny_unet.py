"""A UNet of SDXL's kind, small enough for a test, and prompts for it."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from dofsuite.backbones import PromptEmbeds

SIDE, TOKENS, TOKEN_DIM, POOLED_DIM = 8, 5, 16, 12


def tiny_unet(seed: int = 0, exif_dim: int | None = None) -> UNet2DConditionModel:
    """Two levels with attention on the lower one, as SDXL's three, and its size conditions."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=TOKEN_DIM,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=POOLED_DIM + 6 * 8,
        time_cond_proj_dim=exif_dim,
    )


def inputs(batch: int = 3, seed: int = 1) -> tuple[Tensor, Tensor, PromptEmbeds]:
    """Noisy latents, timesteps and prompts."""
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randn(batch, 4, SIDE, SIDE, generator=generator)
    t = torch.randint(0, 1000, (batch,), generator=generator)
    tokens = torch.randn(batch, TOKENS, TOKEN_DIM, generator=generator)
    return noisy, t, PromptEmbeds(tokens, torch.randn(batch, POOLED_DIM, generator=generator))
