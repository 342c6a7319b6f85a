"""The published architectures at full size, with random weights: for counting and timing.

They are built on torch's current default device, which may be `meta`. `without_weights` turns the
descriptor of a pretrained network into one of these.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    UNet2DConditionModel,
)
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from dofsuite.backbones.codec import VaeCodec
from dofsuite.backbones.family import Backbone, BackboneModules
from dofsuite.backbones.flux.flux import PretrainedFlux
from dofsuite.backbones.klein.codec import Flux2VaeCodec
from dofsuite.backbones.klein.klein import PretrainedKlein
from dofsuite.backbones.perception.depth import NEAREST_M, Depth, DepthAnything
from dofsuite.backbones.perception.frozen import DensePrediction
from dofsuite.backbones.perception.metric3d import Metric3D
from dofsuite.backbones.perception.saliency import BiRefNet, Saliency
from dofsuite.backbones.sdxl.sdxl import PretrainedSdxl, Sdxl, SdxlModules
from dofsuite.backbones.small.word_encoder import WordEncoder

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

FLUX1_DEV = {"num_layers": 19, "num_single_layers": 38, "guidance_embeds": True}

KLEIN_4B = {
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "joint_attention_dim": 7680,
    "guidance_embeds": False,
}

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

# Depth Anything V2: its encoder, DINOv2, and its head.
DINOV2 = {
    "small": {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24},
}
OUTPUT_LAYERS = {"small": (3, 6, 9, 12), "base": (3, 6, 9, 12), "large": (5, 12, 18, 24)}
DEPTH_HEAD: dict[str, dict[str, Any]] = {
    "small": {"neck_hidden_sizes": [48, 96, 192, 384], "fusion_hidden_size": 64},
    "base": {"neck_hidden_sizes": [96, 192, 384, 768], "fusion_hidden_size": 128},
    "large": {"neck_hidden_sizes": [256, 512, 1024, 1024], "fusion_hidden_size": 256},
}


@contextmanager
def default_dtype(name: str) -> Iterator[None]:
    """Build networks in a dtype from the start: a float32 copy of them may not fit in memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class RandomFlux(Backbone):
    """FLUX.1-dev, or another configuration of its classes."""

    def __init__(
        self,
        transformer: Mapping[str, Any] = FLUX1_DEV,
        vae: Mapping[str, Any] = FLUX1_DEV_VAE,
        dtype: str = "bfloat16",
        num_text_tokens: int = 0,
    ) -> None:
        self.transformer, self.vae = transformer, vae
        self.dtype, self.num_text_tokens = dtype, num_text_tokens

    def load(self) -> BackboneModules:
        # Built in its dtype from the start: a float32 copy may not fit in memory.
        with default_dtype(self.dtype):
            transformer = FluxTransformer2DModel.from_config(dict(self.transformer))
            codec = VaeCodec(AutoencoderKL.from_config(dict(self.vae)))
        config = transformer.config
        text_tokens = torch.zeros(self.num_text_tokens, config.joint_attention_dim)
        return BackboneModules(
            transformer.eval().requires_grad_(False),
            codec,
            torch.zeros(config.pooled_projection_dim),
            text_tokens if self.num_text_tokens else None,
        )

    @property
    def depths(self) -> tuple[int, ...]:
        return self.transformer["num_layers"], self.transformer["num_single_layers"]

    def of_depths(self, depths: tuple[int, ...]) -> "RandomFlux":
        """Return it with other numbers of double and single blocks."""
        names = ("num_layers", "num_single_layers")
        transformer = {**self.transformer, **dict(zip(names, depths, strict=True))}
        return RandomFlux(transformer, self.vae, self.dtype, self.num_text_tokens)


class RandomKlein(Backbone):
    """FLUX.2 klein 4B, or another configuration of its classes."""

    def __init__(
        self,
        transformer: Mapping[str, Any] = KLEIN_4B,
        vae: Mapping[str, Any] = MappingProxyType({}),
        dtype: str = "bfloat16",
    ) -> None:
        self.transformer, self.vae = transformer, vae
        self.dtype = dtype

    def load(self) -> BackboneModules:
        with default_dtype(self.dtype):
            transformer = Flux2Transformer2DModel.from_config(dict(self.transformer))
            codec = Flux2VaeCodec(AutoencoderKLFlux2.from_config(dict(self.vae)))
        return BackboneModules(transformer.eval().requires_grad_(False), codec, torch.zeros(0))

    @property
    def depths(self) -> tuple[int, ...]:
        return self.transformer["num_layers"], self.transformer["num_single_layers"]

    def of_depths(self, depths: tuple[int, ...]) -> "RandomKlein":
        """Return it with other numbers of double and single blocks."""
        names = ("num_layers", "num_single_layers")
        transformer = {**self.transformer, **dict(zip(names, depths, strict=True))}
        return RandomKlein(transformer, self.vae, self.dtype)


class RandomSdxl(Sdxl):
    """SDXL-base, or another configuration of its classes; a word encoder of its shapes."""

    def __init__(
        self,
        dtype: str = "float32",
        vae_dtype: str = "bfloat16",
        unet: Mapping[str, Any] = SDXL_UNET,
        vae: Mapping[str, Any] = SDXL_VAE,
    ) -> None:
        self.dtype, self.vae_dtype = dtype, vae_dtype
        self.unet, self.vae = unet, vae

    def load(self) -> SdxlModules:
        with default_dtype(self.dtype):
            unet = UNet2DConditionModel.from_config(dict(self.unet))
        with default_dtype(self.vae_dtype):
            codec = VaeCodec(AutoencoderKL.from_config(dict(self.vae)))
        # Prompt embeddings of the widths that this UNet takes.
        token_dim = unet.config.cross_attention_dim
        pooled_dim = unet.config.projection_class_embeddings_input_dim - 6 * (
            unet.config.addition_time_embed_dim
        )
        prompts = WordEncoder(num_tokens=77, token_dim=token_dim, pooled_dim=pooled_dim)
        return SdxlModules(unet.eval().requires_grad_(False), codec, prompts)

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(self.unet["transformer_layers_per_block"][1:])

    def of_depths(self, depths: tuple[int, ...]) -> "RandomSdxl":
        """Return it with other numbers of transformer layers at its coarser levels."""
        first = self.unet["transformer_layers_per_block"][0]
        unet = {**self.unet, "transformer_layers_per_block": (first, *depths)}
        return RandomSdxl(self.dtype, self.vae_dtype, unet, self.vae)


class RandomDepth(Depth):
    """Metric Depth Anything V2 (indoor, 20 m)."""

    def __init__(self, size: str = "small") -> None:
        self.size = size

    def load(self) -> DensePrediction:
        encoder: Any = {"image_size": 518, "patch_size": 14, "reshape_hidden_states": False}
        encoder |= {"out_indices": list(OUTPUT_LAYERS[self.size]), **DINOV2[self.size]}
        config = DepthAnythingConfig(
            backbone_config=Dinov2Config(**encoder),
            reassemble_hidden_size=DINOV2[self.size]["hidden_size"],
            depth_estimation_type="metric",
            max_depth=20,
            **DEPTH_HEAD[self.size],
        )
        return DensePrediction(DepthAnythingForDepthEstimation(config), 518, NEAREST_M)


class RandomSaliency(Saliency):
    """A stand-in of BiRefNet's weights and FLOPs (its code lies on the hub): a ViT-L."""

    def load(self) -> DensePrediction:
        return RandomDepth("large").load()


def without_weights(descriptor: Any) -> Any:
    """Return a descriptor of the same architecture that loads random weights, without a download.

    A folder's own configuration is read; a hub id counts as the published model of its class. What
    comes with dofsuite is returned as it is.
    """
    # The denoisers
    if isinstance(descriptor, PretrainedFlux):
        return RandomFlux(
            _config(descriptor.path, "transformer", FLUX1_DEV),
            _config(descriptor.path, "vae", FLUX1_DEV_VAE),
            descriptor.dtype,
            descriptor.empty_prompt_tokens,
        )
    if isinstance(descriptor, PretrainedKlein):
        return RandomKlein(
            _config(descriptor.path, "transformer", KLEIN_4B),
            _config(descriptor.path, "vae", {}),
            descriptor.dtype,
        )
    if isinstance(descriptor, PretrainedSdxl):
        return RandomSdxl(
            descriptor.dtype,
            descriptor.vae_dtype,
            _config(descriptor.path, "unet", SDXL_UNET),
            _config(descriptor.vae or descriptor.path, "" if descriptor.vae else "vae", SDXL_VAE),
        )
    # Perception: Metric3D is a ViT-L with a decoder, as Depth Anything's large one
    if isinstance(descriptor, Metric3D):
        return RandomDepth("large")
    if isinstance(descriptor, DepthAnything):
        sizes = [size for size in DINOV2 if size in descriptor.path.lower()]
        return RandomDepth(sizes[0] if sizes else "small")
    return RandomSaliency() if isinstance(descriptor, BiRefNet) else descriptor


def _config(path: str, part: str, published: Mapping[str, Any]) -> Mapping[str, Any]:
    file = Path(path) / part / "config.json"
    return json.loads(file.read_text()) if file.is_file() else published
