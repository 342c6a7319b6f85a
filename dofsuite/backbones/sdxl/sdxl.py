"""SDXL: pretrained by hub id or folder, random at full size, or small, always the same diffusers classes.

As for FLUX, a descriptor is light and holds plain values; `load()` builds the weights, so a run's
configuration is checked in seconds and a checkpoint never holds a frozen network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from dofsuite.backbones.codec import Codec, SpaceToDepthCodec, VaeCodec
from dofsuite.backbones.hub import from_pretrained
from dofsuite.backbones.sdxl.prediction_type import Prediction, read_prediction
from dofsuite.backbones.sdxl.prompt_encoder import SdxlPromptEncoder
from dofsuite.backbones.small.word_encoder import PromptEncoder, WordEncoder
from dofsuite.errors import UserError

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
"""SDXL-base's UNet as diffusers' configuration; all else is that class's default."""

SDXL_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}
"""SDXL's VAE as diffusers' configuration."""

NUM_TIME_IDS = 6
"""SDXL's size conditioning: original height and width, crop top and left, target height and width."""


class SdxlModules(NamedTuple):
    """What a work needs of SDXL while it trains."""

    unet: UNet2DConditionModel
    codec: Codec
    prompts: PromptEncoder
    prediction: Prediction = "epsilon"
    """What the UNet was trained to predict."""


class Sdxl(ABC):
    """A light description of SDXL weights."""

    @abstractmethod
    def load(self) -> SdxlModules:
        """Build the networks on the CPU (or on torch's current default device), frozen, in evaluation mode."""


class PretrainedSdxl(Sdxl):
    """SDXL weights from the hub or a local diffusers folder."""

    def __init__(
        self,
        path: str = "stabilityai/stable-diffusion-xl-base-1.0",
        vae: str | None = "madebyollin/sdxl-vae-fp16-fix",
        revision: str | None = None,
        dtype: Literal["bfloat16", "float32"] = "float32",
        vae_dtype: Literal["bfloat16", "float32"] = "bfloat16",
        cache_prompts: bool = True,
        keep_text_encoders: bool = False,
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder in diffusers layout.
            vae: Hub id or folder of the VAE; null takes the one in `path`, whose activations
                overflow half precision. Its revision is always the newest.
            revision: Hub revision of `path`; null is the newest.
            dtype: Of the UNet's weights; float32 where they are trained (with bfloat16 weights a
                rate of 5e-7 is mostly rounded away).
            vae_dtype: Of the VAE; float16 is not offered, since gradients pass through it and would
                underflow.
            cache_prompts: Keep every prompt's embedding on disk; false for millions of captions.
            keep_text_encoders: Leave the text encoders in memory once they are loaded; true where
                nothing is cached.
        """
        self.path, self.vae, self.revision = path, vae, revision
        self.dtype, self.vae_dtype = dtype, vae_dtype
        self.cache_prompts, self.keep_text_encoders = cache_prompts, keep_text_encoders

    def load(self) -> SdxlModules:
        """Load UNet and VAE; text encoders wait until a prompt needs them.

        Raises:
            UserError: The licence was not accepted, the hub cannot be reached, or the folder lacks
                a part.
        """
        unet = from_pretrained(
            UNet2DConditionModel, self.path, "unet", self.revision, getattr(torch, self.dtype)
        )
        place = (self.path, "vae", self.revision) if self.vae is None else (self.vae, "", None)
        vae = from_pretrained(AutoencoderKL, *place, getattr(torch, self.vae_dtype))
        prompts = SdxlPromptEncoder(
            self.path, self.revision, self.cache_prompts, self.keep_text_encoders
        )
        prediction = read_prediction(self.path, self.revision)
        return SdxlModules(unet.eval().requires_grad_(False), VaeCodec(vae), prompts, prediction)


class RandomSdxl(Sdxl):
    """SDXL-base's architecture with random weights and prompts by words: for counting and timing, never for use."""

    def __init__(
        self,
        dtype: Literal["bfloat16", "float32"] = "float32",
        vae_dtype: Literal["bfloat16", "float32"] = "bfloat16",
    ) -> None:
        """Choose the dtypes of the UNet's and the VAE's weights."""
        self.dtype, self.vae_dtype = dtype, vae_dtype

    def load(self) -> SdxlModules:
        """Build UNet and VAE at full size on torch's current default device (also `meta`)."""
        unet = _in_dtype(UNet2DConditionModel, SDXL_UNET, self.dtype)
        codec = VaeCodec(_in_dtype(AutoencoderKL, SDXL_VAE, self.vae_dtype))
        prompts = WordEncoder(num_tokens=77, token_dim=2048, pooled_dim=1280)
        return SdxlModules(unet.eval().requires_grad_(False), codec, prompts)


def _in_dtype(network: type[Any], config: dict[str, Any], dtype: str) -> Any:
    """Build a network whose weights are of `dtype` from the start, never of another."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        return network(**config)
    finally:
        torch.set_default_dtype(before)


class SmallSdxl(Sdxl):
    """An SDXL-shaped network that a laptop trains, over an exactly invertible codec, with prompts by words.

    At the values below it has 3.4 M weights, and pictures of 64 px are latents of 48 x 16 x 16.
    """

    def __init__(
        self,
        weights: str | None = None,
        channels: tuple[int, ...] = (64, 64, 96),
        layers_per_block: int = 1,
        transformer_layers: int = 1,
        num_tokens: int = 32,
        token_dim: int = 64,
        pooled_dim: int = 64,
        time_id_dim: int = 16,
        downscale: int = 4,
        whitening: float = 0.6,
        prediction: Prediction = "v_prediction",
        seed: int = 0,
    ) -> None:
        """Describe the network.

        Args:
            weights: A folder that a run exported (`unet/`, `codec/`, `scheduler/`); null is a new
                network, as follows.
            channels: Of every level, each half the size of the one before; the first without
                attention, as in SDXL. Multiples of 32, and the first at least 3 x downscale^2,
                since a narrower one cannot let noise through.
            layers_per_block: Residual blocks of a level.
            transformer_layers: Attention layers after each of them.
            num_tokens: Words of a prompt that are heard.
            token_dim: Of a word.
            pooled_dim: Of the pooled prompt.
            time_id_dim: Of each of the six numbers of SDXL's size conditioning.
            downscale: Pixels per latent.
            whitening: How far the codec evens out the spectrum of photographs (0 not at all, 1
                fully; *ours*).
            prediction: What a new network is to predict. Paper: SDXL predicts noise. Here: v,
                because an error of the noise at t = 999 is one 15 times as large of the picture,
                and all sampling begins there (*ours*: a teacher of 600 steps makes recognisable
                things, and with noise one of 2400 did not).
            seed: Of a new network's weights.
        """
        if channels[0] < 3 * downscale**2:
            raise ValueError(
                f"channels: the first is {channels[0]}; with downscale {downscale} it must be at least "
                f"{3 * downscale**2}, or noise cannot pass through"
            )
        self.weights, self.channels, self.seed = weights, tuple(channels), seed
        self.layers_per_block, self.transformer_layers = layers_per_block, transformer_layers
        self.num_tokens, self.token_dim, self.pooled_dim = num_tokens, token_dim, pooled_dim
        self.time_id_dim, self.downscale, self.whitening = time_id_dim, downscale, whitening
        self.prediction = prediction

    def load(self) -> SdxlModules:
        """Build the network, or read it from a folder.

        Raises:
            UserError: `weights` names a folder without a saved network.
        """
        unet, codec = self._random() if self.weights is None else self._saved(Path(self.weights))
        pooled_dim = (
            unet.config.projection_class_embeddings_input_dim
            - NUM_TIME_IDS * unet.config.addition_time_embed_dim
        )
        prompts = WordEncoder(self.num_tokens, unet.config.cross_attention_dim, pooled_dim)
        prediction = self.prediction if self.weights is None else read_prediction(self.weights)
        return SdxlModules(unet.eval().requires_grad_(False), codec, prompts, prediction)

    def _random(self) -> tuple[UNet2DConditionModel, SpaceToDepthCodec]:
        codec = SpaceToDepthCodec(self.downscale, self.whitening)
        levels = len(self.channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            unet = UNet2DConditionModel(
                in_channels=codec.latent_channels,
                out_channels=codec.latent_channels,
                down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (levels - 1)),
                up_block_types=(*["CrossAttnUpBlock2D"] * (levels - 1), "UpBlock2D"),
                block_out_channels=self.channels,
                attention_head_dim=tuple(width // 32 for width in self.channels),
                layers_per_block=self.layers_per_block,
                transformer_layers_per_block=self.transformer_layers,
                cross_attention_dim=self.token_dim,
                use_linear_projection=True,
                norm_num_groups=16,
                addition_embed_type="text_time",
                addition_time_embed_dim=self.time_id_dim,
                projection_class_embeddings_input_dim=self.pooled_dim
                + NUM_TIME_IDS * self.time_id_dim,
            )
        return unet, codec

    @staticmethod
    def _saved(folder: Path) -> tuple[UNet2DConditionModel, SpaceToDepthCodec]:
        for part in ("unet/config.json", "codec/config.json", "scheduler/scheduler_config.json"):
            if not (folder / part).is_file():
                raise UserError(
                    f"{folder}: weights: holds no small SDXL ({part} is missing); train one."
                )
        unet = UNet2DConditionModel.from_pretrained(
            folder / "unet",
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
        )
        codec = SpaceToDepthCodec.from_pretrained(
            folder / "codec", use_safetensors=True, low_cpu_mem_usage=False
        )
        return unet, codec
