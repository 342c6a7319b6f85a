"""What is added to a frozen SDXL UNet: low-rank adapters on its attention, and a ControlNet that sees a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn

from dofsuite.backbones.hub import from_pretrained

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""The linears of an attention layer, self and cross."""

CONDITION_CHANNELS = (16, 32, 96, 256)
"""Widths in which a ControlNet brings a picture to the size of the latents (arXiv 2302.05543; diffusers)."""


@dataclass(frozen=True)
class UnetLora:
    """Low-rank adaptation (arXiv 2106.09685) of every attention layer of a UNet."""

    rank: int = 64
    """Rank, and alpha: a scale of one, so that no tool can lose it (*ours*)."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank: must be at least 1, got {self.rank}")

    def attach(self, unet: UNet2DConditionModel) -> None:
        """Freeze `unet` and add a new adapter in float32, B zero: the output stays as it was."""
        unet.requires_grad_(False)
        unet.add_adapter(
            LoraConfig(r=self.rank, lora_alpha=self.rank, target_modules=list(ATTENTION))
        )
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def save_unet_lora(unet: UNet2DConditionModel, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors`, as a stock `StableDiffusionXLPipeline` loads it."""
    StableDiffusionXLLoraLoaderMixin.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        **_collate_lora_metadata({"unet": unet}),
    )


def load_unet_lora(unet: UNet2DConditionModel, folder: Path) -> None:
    """Read an adapter that `save_unet_lora` wrote, safetensors only."""
    state, alphas, metadata = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
        folder, use_safetensors=True, unet_config=unet.config, return_lora_metadata=True
    )
    StableDiffusionXLLoraLoaderMixin.load_lora_into_unet(state, alphas, unet, metadata=metadata)


@dataclass(frozen=True)
class DepthControl:
    """A ControlNet that sees nearness, 0 far to 1 near, as a grey picture (arXiv 2302.05543)."""

    weights: str | None = None
    """Hub id or folder of a depth ControlNet for SDXL; null is a new one, a copy of the UNet's encoder whose output
    is zero at first (*stated* by the ControlNet paper)."""
    revision: str | None = None
    """Hub revision of `weights`; null is the newest."""

    def load(self, unet: UNet2DConditionModel, downscale: int) -> ControlNetModel:
        """Build it in float32 for a UNet whose latents are pictures `downscale` times smaller (a power of 2).

        Raises:
            UserError: `weights` cannot be loaded.
        """
        if self.weights is not None:
            return from_pretrained(ControlNetModel, self.weights, "", self.revision, torch.float32)
        levels = round(math.log2(downscale))
        widths = (
            *CONDITION_CHANNELS[: levels + 1],
            *[CONDITION_CHANNELS[-1]] * (levels + 1 - len(CONDITION_CHANNELS)),
        )
        control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths)
        return control.float()


class ControlledUnet(nn.Module):
    """A UNet with a ControlNet beside it and the picture that it sees filled in: called as the UNet alone is."""

    def __init__(
        self, unet: UNet2DConditionModel, control: ControlNetModel, picture: Tensor, scale: float
    ) -> None:
        """Fill in.

        Args:
            unet: The network.
            control: Made for it.
            picture: [b, 3, h, w] in [0, 1]; a batch of n b noisy latents sees it n times.
            scale: Factor of what the ControlNet adds; 0 is the UNet alone.
        """
        super().__init__()
        self.unet, self.control, self.picture, self.scale = unet, control, picture, scale

    @property
    def conv_in(self) -> nn.Module:
        """The UNet's first layer, whose weights tell its dtype."""
        return self.unet.conv_in

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Tensor],
        **more: Any,
    ) -> Any:
        """Add the ControlNet's residuals to the UNet's."""
        dtype = self.control.conv_in.weight.dtype
        own = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in added_cond_kwargs.items()
        }
        down, middle = self.control(
            sample.to(dtype),
            timestep,
            encoder_hidden_states.to(dtype),
            controlnet_cond=self.picture.to(dtype).repeat(
                len(sample) // len(self.picture), 1, 1, 1
            ),
            conditioning_scale=self.scale,
            added_cond_kwargs=own,
            return_dict=False,
        )
        return self.unet(
            sample,
            timestep,
            encoder_hidden_states=encoder_hidden_states,
            added_cond_kwargs=added_cond_kwargs,
            down_block_additional_residuals=[residual.to(sample.dtype) for residual in down],
            mid_block_additional_residual=middle.to(sample.dtype),
            **more,
        )
