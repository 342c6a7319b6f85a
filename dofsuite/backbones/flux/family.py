"""FLUX.1 as a backbone family: 3-column ids, pooled text, a guidance embedding."""

import math
import re
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from diffusers.loaders import FluxLoraLoaderMixin
from diffusers.models.normalization import AdaLayerNormZero, AdaLayerNormZeroSingle
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from dofsuite.backbones.autocast_hooks import cast_first_output
from dofsuite.backbones.codec import VaeCodec
from dofsuite.backbones.family import ConditionCache, Family
from dofsuite.backbones.flux.clean_conditions import CleanTokens, set_clean_conditions


class Flux1(Family):
    """FLUX.1: dev, Kontext and schnell."""

    # As FLUX Kontext numbers its references
    stream_numbers = (0, 1, 2)
    id_axes = 3
    # 19 x 12 + 38 x 5 = 418 in FLUX.1-dev.
    lora_targets = re.compile(
        r"(single_)?transformer_blocks\.\d+\.("
        r"attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
        r"|ff\.net\.(0\.proj|2)|ff_context\.net\.(0\.proj|2)|proj_mlp|proj_out)"
    )
    lora_mixin = FluxLoraLoaderMixin

    def text_ids(self, count: int, device: torch.device) -> Float[Tensor, "k axes"]:
        return torch.zeros(count, 3, device=device)

    def conditioning(
        self,
        transformer: FluxTransformer2DModel,
        t: Tensor,
        pooled_text: Tensor,
        guidance_embed: float,
    ) -> dict[str, Any]:
        pooled = pooled_text.to(transformer.dtype).expand(len(t), -1)
        # FLUX.1-dev is guidance-distilled
        is_guided = transformer.config.guidance_embeds
        guidance = torch.full_like(t, guidance_embed) if is_guided else None
        return {"pooled_projections": pooled, "guidance": guidance}

    def vae_codec(self, vae: AutoencoderKL) -> VaeCodec:
        return VaeCodec(vae)

    def share_low_precision_inputs(self, transformer: FluxTransformer2DModel) -> None:
        """The norms cast their output once, and PEFT's cast is off.

        Otherwise q, k, v and the MLP each save their own copy for the backward pass, 3 of the about
        20 widths that a single block saves.
        """
        for module in transformer.modules():
            if isinstance(module, AdaLayerNormZero | AdaLayerNormZeroSingle):
                module.register_forward_hook(cast_first_output)
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False

    def set_clean_conditions(
        self, transformer: FluxTransformer2DModel, attend_to_all: bool
    ) -> None:
        set_clean_conditions(transformer)

    def predict_noise_tokens(
        self,
        transformer: FluxTransformer2DModel,
        condition: Float[Tensor, "b m d"],
        noisy: Float[Tensor, "b n d"],
        ids: Float[Tensor, "m_n axes"],
        cache: ConditionCache | None,
        attend_to_all: bool,
        **inputs: Any,
    ) -> Float[Tensor, "b n d"]:
        clean = CleanTokens(condition.shape[1], attend_to_all, keep=cache is not None)
        tokens = torch.cat([condition, noisy], dim=1)
        # Conditions of an earlier step
        if cache is not None and cache.layers is not None:
            clean, tokens = CleanTokens(0, attend_to_all, cache.layers), noisy
            ids = ids[condition.shape[1] :]
        # Two time embeddings: of the flow time and of 0
        t = inputs.pop("timestep")
        for name in ("pooled_projections", "guidance"):
            if inputs[name] is not None:
                inputs[name] = torch.cat([inputs[name], inputs[name]])
        output = transformer(
            hidden_states=tokens,
            img_ids=ids,
            timestep=torch.cat([t, torch.zeros_like(t)]),
            joint_attention_kwargs={"clean": clean},
            return_dict=False,
            **inputs,
        )[0]
        if cache is not None:
            cache.layers = clean.cached
        return output[:, -noisy.shape[1] :]  # type: ignore[no-any-return]

    def time_shift(self, num_tokens: int, num_steps: int) -> float:
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        return math.exp(calculate_shift(num_tokens))
