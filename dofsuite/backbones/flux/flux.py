"""FLUX: pretrained by hub id or folder, random at full size, or small, always the same diffusers classes.

A descriptor (`PretrainedFlux`, `RandomFlux`, `SmallFlux`) is light and holds plain values; `load()`
builds the weights. So a run's configuration is checked in seconds and a checkpoint never holds a
frozen network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor

from dofsuite.backbones.codec import Codec, SpaceToDepthCodec, VaeCodec
from dofsuite.backbones.hub import cached_tensor, from_pretrained, pretrained_tokenizer
from dofsuite.backbones.small.flux_init import start_near_identity
from dofsuite.errors import UserError

PACKAGED_BASE = Path(__file__).parents[1] / "small" / "weights" / "flux"
"""The small base that the package carries; `experiments/quickstart_base.yaml` trained it."""

FLUX1_DEV_TRANSFORMER = {"guidance_embeds": True}
"""FLUX.1-dev's transformer as diffusers' configuration; all else is that class's default."""

FLUX1_DEV_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
"""FLUX.1-dev's VAE as diffusers' configuration."""


class FluxModules(NamedTuple):
    """What a work needs of FLUX while it trains: no text encoder among it."""

    transformer: FluxTransformer2DModel
    codec: Codec
    pooled_text: Tensor
    """[pooled_projection_dim] pooled text vector of the empty prompt."""


class Backbone(ABC):
    """A light description of FLUX weights."""

    @abstractmethod
    def load(self) -> FluxModules:
        """Build the networks on the CPU (or on torch's current default device), frozen, in evaluation mode."""


class PretrainedFlux(Backbone):
    """FLUX weights from the hub or a local diffusers folder."""

    def __init__(
        self,
        path: str = "black-forest-labs/FLUX.1-dev",
        revision: str | None = None,
        dtype: Literal["bfloat16", "float32"] = "bfloat16",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder in diffusers layout.
            revision: Hub revision; null is the newest.
            dtype: Of the frozen weights; adapters are float32 in either case.
        """
        self.path, self.revision, self.dtype = path, revision, dtype

    def load(self) -> FluxModules:
        """Load transformer and VAE; compute the empty prompt's pooled vector once and keep it in the cache.

        Raises:
            UserError: The licence was not accepted, the hub cannot be reached, or the folder lacks
                a part.
        """
        dtype = getattr(torch, self.dtype)
        transformer = from_pretrained(
            FluxTransformer2DModel, self.path, "transformer", self.revision, dtype
        )
        vae = from_pretrained(AutoencoderKL, self.path, "vae", self.revision, dtype)
        pooled = cached_tensor(f"pooled-{self.path}-{self.revision}", self._pooled_empty_prompt)
        return FluxModules(transformer.eval().requires_grad_(False), VaeCodec(vae), pooled)

    def _pooled_empty_prompt(self) -> Tensor:
        """Return CLIP's pooled vector of the empty prompt, as FluxPipeline computes it."""
        from transformers import CLIPTextModel, CLIPTokenizer

        tokenizer = pretrained_tokenizer(CLIPTokenizer, self.path, "tokenizer", self.revision)
        encoder = from_pretrained(
            CLIPTextModel, self.path, "text_encoder", self.revision, torch.float32
        )
        tokens = tokenizer(
            "", padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            return encoder(tokens).pooler_output[0]


class RandomFlux(Backbone):
    """FLUX.1-dev's architecture with random weights: for counting and timing, never for use."""

    def __init__(self, dtype: Literal["bfloat16", "float32"] = "bfloat16") -> None:
        """Choose the dtype of all weights."""
        self.dtype = dtype

    def load(self) -> FluxModules:
        """Build transformer and VAE at full size on torch's current default device (also `meta`)."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, self.dtype))
        try:
            transformer = FluxTransformer2DModel(**FLUX1_DEV_TRANSFORMER)
            codec = VaeCodec(AutoencoderKL(**FLUX1_DEV_VAE))
        finally:
            torch.set_default_dtype(before)
        pooled = torch.zeros(transformer.config.pooled_projection_dim)
        return FluxModules(transformer.eval().requires_grad_(False), codec, pooled)


class SmallFlux(Backbone):
    """A FLUX-shaped network that a laptop trains, over an exactly invertible codec; it has no text encoder."""

    def __init__(
        self,
        weights: str | None = "packaged",
        heads: int = 6,
        double_blocks: int = 1,
        single_blocks: int = 4,
        downscale: int = 4,
        whitening: float = 0.6,
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            weights: `packaged`, the base that comes with dofsuite; a folder that a base run
                exported; or null, a new network of the values below.
            heads: Attention heads of 32 channels each.
            double_blocks: Blocks with weights of their own for text and image tokens.
            single_blocks: Blocks with shared weights.
            downscale: Pixels per latent; a token is two latents square, as in FLUX.
            whitening: How far the codec evens out the spectrum of photographs (0 not at all, 1
                fully; *ours*).
            seed: Of a new network's weights.
        """
        self.weights, self.heads, self.seed = weights, heads, seed
        self.double_blocks, self.single_blocks = double_blocks, single_blocks
        self.downscale, self.whitening = downscale, whitening

    def load(self) -> FluxModules:
        """Build the network, or read it from the package or a folder.

        Raises:
            UserError: `weights` names a folder without a saved base.
        """
        transformer, codec = self._random() if self.weights is None else self._saved()
        pooled = torch.zeros(transformer.config.pooled_projection_dim)
        return FluxModules(transformer.eval().requires_grad_(False), codec, pooled)

    def _random(self) -> tuple[FluxTransformer2DModel, SpaceToDepthCodec]:
        codec = SpaceToDepthCodec(self.downscale, self.whitening)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            transformer = FluxTransformer2DModel(
                in_channels=4 * codec.latent_channels,
                num_layers=self.double_blocks,
                num_single_layers=self.single_blocks,
                attention_head_dim=32,
                num_attention_heads=self.heads,
                joint_attention_dim=64,
                pooled_projection_dim=16,
                axes_dims_rope=(8, 12, 12),
            )
            start_near_identity(transformer)
        return transformer, codec

    def _saved(self) -> tuple[FluxTransformer2DModel, SpaceToDepthCodec]:
        folder = PACKAGED_BASE if self.weights == "packaged" else Path(str(self.weights))
        if not (folder / "transformer" / "config.json").is_file():
            raise UserError(
                f"{folder}: weights: holds no base (transformer/config.json is missing); train one first."
            )
        transformer = FluxTransformer2DModel.from_pretrained(
            folder / "transformer",
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
        )
        codec = SpaceToDepthCodec.from_pretrained(
            folder / "codec", use_safetensors=True, low_cpu_mem_usage=False
        )
        return transformer, codec
