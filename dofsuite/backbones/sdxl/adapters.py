"""Adapters of a frozen SDXL UNet: LoRA, and a depth ControlNet."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.training_utils import _collate_lora_metadata
from peft import get_peft_model_state_dict
from torch import Tensor, nn

from dofsuite.backbones.hub import from_pretrained
from dofsuite.backbones.lora import attach_lora

# Endings of names: the linears of an attention layer, self and cross; and with all that LCM-LoRA
# (arXiv 2311.05556) and DMD2's code adapt, the rest of the transformer and the convolutions.
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
TRANSFORMER = [*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"]
TARGETS = {"attention": ATTENTION, "all": [*TRANSFORMER, *CONVOLUTIONS, "time_emb_proj"]}

# Widths of the layers that downscale a ControlNet's image to latents (arXiv 2302.05543).
CONDITION_CHANNELS = (16, 32, 96, 256)


@dataclass(frozen=True)
class UnetLora:
    """Low-rank adaptation (arXiv 2106.09685) of a UNet."""

    rank: int = 64
    """Rank (DMD2's code: 64)."""
    alpha: float | None = None
    """What is added is times alpha / rank; null is the rank: a scale of one, which no tool can drop
    (*ours*; DMD2's code: 8)."""
    targets: Literal["attention", "all"] = "attention"
    """The linears of every attention layer (*ours*), or all that DMD2's code adapts: those of the
    transformers, the convolutions and the time projections of the residual blocks."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank: must be at least 1, got {self.rank}")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha: must be above 0 and finite, got {self.alpha}")

    def attach(self, unet: UNet2DConditionModel) -> None:
        attach_lora(unet, self.rank, TARGETS[self.targets], self.alpha)


def has_lora(unet: nn.Module) -> bool:
    # Set by diffusers' `add_adapter`, reset by its `unload_lora`.
    return bool(getattr(unet, "_hf_peft_config_loaded", False))


def merge_lora(unet: Any) -> None:
    """Add the adapters to the weights, in place: the UNet is a stock one again."""
    unet.fuse_lora()
    unet.unload_lora()


def save_unet_lora(unet: UNet2DConditionModel, folder: Path) -> None:
    StableDiffusionXLLoraLoaderMixin.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        **_collate_lora_metadata({"unet": unet}),
    )


def load_unet_lora(unet: UNet2DConditionModel, folder: Path) -> None:
    state, alphas, metadata = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
        folder, use_safetensors=True, unet_config=unet.config, return_lora_metadata=True
    )
    StableDiffusionXLLoraLoaderMixin.load_lora_into_unet(state, alphas, unet, metadata=metadata)


@dataclass(frozen=True)
class DepthControl:
    """A ControlNet on inverse depth, 0 far to 1 near, as a gray image (arXiv 2302.05543)."""

    weights: str | None = None
    """Hub id or folder of a depth ControlNet for SDXL; null is a new one, a copy of the UNet's
    encoder whose output is zero at first (*stated* by the ControlNet paper)."""
    revision: str | None = None
    """Hub revision of `weights`; null is the newest."""

    def load(self, unet: UNet2DConditionModel, downscale: int) -> ControlNetModel:
        """Build it in float32; latents are `downscale` (a power of 2) times smaller than images.

        Raises:
            UserError: `weights` cannot be loaded.
        """
        if self.weights is not None:
            return from_pretrained(ControlNetModel, self.weights, "", self.revision, torch.float32)
        # One width per halving and one more; the last repeats.
        num_widths = round(math.log2(downscale)) + 1
        repeated = [CONDITION_CHANNELS[-1]] * (num_widths - len(CONDITION_CHANNELS))
        widths = (*CONDITION_CHANNELS[:num_widths], *repeated)
        return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths).float()


class ControlledUnet(nn.Module):
    """A UNet with a ControlNet whose image is bound to it; it is called like the UNet alone."""

    def __init__(
        self, unet: UNet2DConditionModel, control: ControlNetModel, image: Tensor, scale: float
    ) -> None:
        """Bind an image.

        Args:
            unet: The network.
            control: A ControlNet for it.
            image: [b, 3, h, w] in [0, 1]; for n b noisy latents it is repeated n times.
            scale: Factor of the ControlNet's residuals; 0 is the UNet alone.
        """
        super().__init__()
        self.unet, self.control = unet, control
        self.image, self.scale = image, scale

    # The UNet's first layer, from which callers read its dtype.
    @property
    def conv_in(self) -> nn.Module:
        return self.unet.conv_in

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Tensor],
        **options: Any,
    ) -> Any:
        # The ControlNet in its own dtype, which may differ from the UNet's.
        dtype = self.control.conv_in.weight.dtype
        added = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in added_cond_kwargs.items()
        }
        image = self.image.to(dtype).repeat(len(sample) // len(self.image), 1, 1, 1)
        down, middle = self.control(
            sample.to(dtype),
            timestep,
            encoder_hidden_states.to(dtype),
            controlnet_cond=image,
            conditioning_scale=self.scale,
            added_cond_kwargs=added,
            return_dict=False,
        )
        # The UNet with its residuals.
        return self.unet(
            sample,
            timestep,
            encoder_hidden_states=encoder_hidden_states,
            added_cond_kwargs=added_cond_kwargs,
            down_block_additional_residuals=[residual.to(sample.dtype) for residual in down],
            mid_block_additional_residual=middle.to(sample.dtype),
            **options,
        )
