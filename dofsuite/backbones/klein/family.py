"""FLUX.2 klein as a backbone family: 4-column ids, no pooled text, no guidance embedding."""

import math
import re
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from diffusers.loaders import Flux2LoraLoaderMixin
from diffusers.models.transformers.transformer_flux2 import (
    Flux2Attention,
    Flux2AttnProcessor,
    Flux2FeedForward,
    Flux2KVAttnProcessor,
    Flux2KVParallelSelfAttnProcessor,
    Flux2ParallelSelfAttention,
    Flux2ParallelSelfAttnProcessor,
)
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from dofsuite.backbones.autocast_hooks import cast_inputs
from dofsuite.backbones.family import ConditionCache, Family
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
    cached_pipeline = "Flux2KleinKVPipeline"

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
                module.register_forward_pre_hook(cast_inputs, with_kwargs=True)
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = False

    def set_clean_conditions(
        self, transformer: Flux2Transformer2DModel, attend_to_all: bool
    ) -> None:
        """Set the attention of klein's KV mode, or full attention that takes the mode's inputs."""
        double = _FullAttention if attend_to_all else Flux2KVAttnProcessor
        single = _FullSelfAttention if attend_to_all else Flux2KVParallelSelfAttnProcessor
        for block in transformer.transformer_blocks:
            block.attn.set_processor(double())
        for block in transformer.single_transformer_blocks:
            block.attn.set_processor(single())

    def predict_noise_tokens(
        self,
        transformer: Flux2Transformer2DModel,
        condition: Float[Tensor, "b m d"],
        noisy: Float[Tensor, "b n d"],
        ids: Float[Tensor, "m_n axes"],
        cache: ConditionCache | None,
        attend_to_all: bool,
        **inputs: Any,
    ) -> Float[Tensor, "b n d"]:
        """Klein's KV mode in stock diffusers: it reads the conditions once (`extract`)."""
        count = condition.shape[1]
        # The conditions' keys and values are there
        if cache is not None and cache.layers is not None:
            output: Tensor = transformer(
                hidden_states=noisy,
                img_ids=ids[count:],
                kv_cache=cache.layers,
                kv_cache_mode="cached",
                return_dict=False,
                **inputs,
            )[0]
            return output
        # The first step of sampling, or a step of training
        output, layers = transformer(
            hidden_states=torch.cat([condition, noisy], dim=1),
            img_ids=ids,
            kv_cache_mode="extract",
            num_ref_tokens=count,
            return_dict=False,
            **inputs,
        )
        if cache is not None:
            cache.layers = layers
        return output

    def time_shift(self, num_tokens: int, num_steps: int) -> float:
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return math.exp(compute_empirical_mu(num_tokens, num_steps))


# Full attention, whose conditions are modulated by `extract` as in the KV mode.
class _FullAttention(Flux2AttnProcessor):  # type: ignore[misc]
    def __call__(
        self,
        attn: Flux2Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        kv_cache: Any = None,
        kv_cache_mode: str | None = None,
        num_ref_tokens: int = 0,
    ) -> Any:
        return super().__call__(
            attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
        )


class _FullSelfAttention(Flux2ParallelSelfAttnProcessor):  # type: ignore[misc]
    def __call__(
        self,
        attn: Flux2ParallelSelfAttention,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        kv_cache: Any = None,
        kv_cache_mode: str | None = None,
        num_txt_tokens: int = 0,
        num_ref_tokens: int = 0,
    ) -> Tensor:
        attended: Tensor = super().__call__(attn, hidden_states, attention_mask, image_rotary_emb)
        return attended
