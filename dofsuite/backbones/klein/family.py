"""FLUX.2 klein as a backbone family: 4-column ids, no pooled text, no guidance embedding."""

import math
import re
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from diffusers.loaders import Flux2LoraLoaderMixin
from diffusers.models.transformers.transformer_flux2 import (
    Flux2Attention,
    Flux2FeedForward,
    Flux2ParallelSelfAttention,
)
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from dofsuite.backbones.family import Family
from dofsuite.backbones.klein.codec import Flux2VaeCodec


class Flux2Klein(Family):
    """FLUX.2 klein, base and distilled."""

    # (stream, row, column, place in the text), as Flux2KleinPipeline numbers its references
    stream_numbers = (0, 10, 20)
    id_axes = 4
    # 5 x 12 + 20 x 2 = 100 in FLUX.2 klein 4B.
    lora_targets = re.compile(
        r"transformer_blocks\.\d+\."
        r"(attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
        r"|(ff|ff_context)\.(linear_in|linear_out))"
        r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)"
    )
    lora_mixin = Flux2LoraLoaderMixin

    def text_ids(self, count: int, device: torch.device) -> Float[Tensor, "k axes"]:
        places = torch.arange(count, device=device, dtype=torch.float32)
        return torch.nn.functional.pad(places[:, None], (3, 0))

    def conditioning(
        self,
        transformer: Flux2Transformer2DModel,
        t: Tensor,
        pooled_text: Tensor,
        guidance_embed: float,
    ) -> dict[str, Any]:
        """Return the guidance, of which FLUX.2 klein takes none; FLUX.2-dev would."""
        is_guided = transformer.config.guidance_embeds
        return {"guidance": torch.full_like(t, guidance_embed) if is_guided else None}

    def vae_codec(self, vae: AutoencoderKLFlux2) -> Flux2VaeCodec:
        return Flux2VaeCodec(vae)

    def share_low_precision_inputs(self, transformer: Flux2Transformer2DModel) -> None:
        """Attentions and MLPs cast their input once, before their linears, and PEFT's cast is off.

        The modulated norms are float32 under autocast, so q, k and v would each save a copy.
        """
        for module in transformer.modules():
            if isinstance(module, Flux2Attention | Flux2FeedForward | Flux2ParallelSelfAttention):
                module.register_forward_pre_hook(_as_autocast_would, with_kwargs=True)
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False

    def time_shift(self, num_tokens: int, num_steps: int) -> float:
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return math.exp(compute_empirical_mu(num_tokens, num_steps))


# The hidden states; the rotary embedding, a tuple, stays in float32.
def _as_autocast_would(
    module: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(_cast, inputs)), {name: _cast(value) for name, value in named.items()}


def _cast(value: Any) -> Any:
    if not isinstance(value, Tensor) or not torch.is_autocast_enabled(value.device.type):
        return value
    return value.to(torch.get_autocast_dtype(value.device.type))
