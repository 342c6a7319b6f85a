"""SDXL: descriptors that build its UNet, VAE and prompt encoder, always as diffusers classes.

As for FLUX, a descriptor is light and holds plain values; `load()` builds the weights, so a run's
configuration is checked in seconds, and a checkpoint never holds a frozen network.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from dofsuite.backbones.codec import Codec, VaeCodec
from dofsuite.backbones.hub import HubWeights, from_pretrained
from dofsuite.backbones.sdxl.prediction_type import Prediction, read_prediction
from dofsuite.backbones.sdxl.prompt_encoder import PromptEncoder, SdxlPromptEncoder

# Size conditioning: original height and width, crop top and left, target height and width.
NUM_TIME_IDS = 6


class SdxlModules(NamedTuple):
    """The parts of SDXL that training needs."""

    unet: UNet2DConditionModel
    codec: Codec
    prompts: PromptEncoder
    # What the UNet was trained to predict.
    prediction: Prediction = "epsilon"


class Sdxl(ABC):
    """A light description of SDXL weights."""

    @property
    def folder(self) -> Path | None:
        """The folder of the weights; None where they lie in none."""
        return None

    @abstractmethod
    def load(self) -> SdxlModules:
        """Build the networks on torch's current default device, frozen, in evaluation mode."""


class PretrainedSdxl(HubWeights, Sdxl):
    """SDXL weights from the hub or a local diffusers folder."""

    def __init__(
        self,
        path: str = "stabilityai/stable-diffusion-xl-base-1.0",
        vae: str | None = "madebyollin/sdxl-vae-fp16-fix",
        revision: str | None = None,
        dtype: Literal["bfloat16", "float32"] = "float32",
        vae_dtype: Literal["bfloat16", "float32"] = "bfloat16",
    ) -> None:
        """Name the weights.

        Args:
            path: Hub id, or a folder in diffusers layout.
            vae: Hub id or folder of the VAE; null takes the one in `path`, whose activations
                overflow half precision. Its revision is always the newest.
            revision: Hub revision of `path`; null is the newest.
            dtype: Of the UNet's weights; float32 where they are trained (with bfloat16 weights a
                learning rate of 5e-7 is mostly rounded away).
            vae_dtype: Of the VAE; float16 is not offered, since gradients pass through it and would
                underflow.
        """
        super().__init__(path, revision, dtype)
        self.vae, self.vae_dtype = vae, vae_dtype

    @property
    def folder(self) -> Path | None:
        """The folder of the weights, if `path` is one."""
        return Path(self.path) if Path(self.path).is_dir() else None

    @property
    def vae_place(self) -> tuple[str, str, str | None]:
        """Hub id or folder, part and revision of the VAE."""
        return (self.path, "vae", self.revision) if self.vae is None else (self.vae, "", None)

    def load(self) -> SdxlModules:
        """Load UNet and VAE; text encoders are loaded when a prompt needs them, and stay.

        Raises:
            UserError: The license was not accepted, the hub cannot be reached, or the folder lacks
                a part.
        """
        unet = from_pretrained(
            UNet2DConditionModel, self.path, "unet", self.revision, self.torch_dtype
        )
        return self.with_unet(unet, self.path, self.revision)

    def with_unet(
        self, unet: UNet2DConditionModel, scheduler: str, revision: str | None = None
    ) -> SdxlModules:
        """Freeze a UNet, load VAE and prompt encoder for it, and read its prediction type.

        Args:
            unet: Pretrained, or one that was trained from it.
            scheduler: Hub id or folder that holds `scheduler/`.
            revision: Hub revision of `scheduler`.

        Raises:
            UserError: A part cannot be loaded.
        """
        codec, prompts = self.load_codec(), SdxlPromptEncoder(self.path, self.revision)
        return SdxlModules(
            unet.eval().requires_grad_(False),
            codec,
            prompts,
            read_prediction(scheduler, revision),
        )

    def load_codec(self) -> VaeCodec:
        """Load the VAE alone.

        Raises:
            UserError: It cannot be loaded.
        """
        dtype = getattr(torch, self.vae_dtype)
        return VaeCodec(from_pretrained(AutoencoderKL, *self.vae_place, dtype))
