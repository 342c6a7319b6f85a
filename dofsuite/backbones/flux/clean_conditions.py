"""FLUX.1's blocks for clean conditions: stock weights and sublayers, another order of calls.

A stock block knows one modulation a sample. Here the image stream begins with the conditions'
tokens (reference and depth), which are modulated as at flow time 0, and which attend to all tokens
or to one another alone. In the second case their keys and values depend on nothing else, so that
they are computed once an image; as FLUX.2 klein's own KV mode does.

Convention: batches of time embeddings are [2 b, d]: of the noise's flow time, then of time 0;
image tokens are [b, m + n, d]: m of conditions, then n of noise.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.transformers.transformer_flux import (
    FluxAttention,
    FluxSingleTransformerBlock,
    FluxTransformerBlock,
)
from torch import Tensor, nn

# Cosines and sines of the rotary embedding, [tokens, d] each.
Rotary = tuple[Tensor, Tensor]
# Query, key and value, [b, tokens, heads, d] each.
Heads = tuple[Tensor, Tensor, Tensor]


@dataclass
class CleanTokens:
    """What the blocks are told: how many tokens of the image stream are conditions.

    Attributes:
        count: m; 0 where `cached` has their keys and values.
        attend_to_all: Whether they see text and noise.
        cached: Keys and values of each block's conditions, [b, m, heads, d]; filled where `keep`.
        keep: Whether to fill it.
    """

    count: int
    attend_to_all: bool = True
    cached: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)
    keep: bool = False


class CleanConditionBlock(FluxTransformerBlock):
    """A block with separate weights for text and image tokens."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: Rotary,
        joint_attention_kwargs: dict[str, CleanTokens],
    ) -> tuple[Tensor, Tensor]:
        clean = joint_attention_kwargs["clean"]
        text, (condition, noise) = encoder_hidden_states, _split(hidden_states, clean.count)
        now, zero = temb.chunk(2)
        # Modulated norms: the conditions' at time 0
        text_norm, *text_modulation = self.norm1_context(text, emb=now)
        condition_norm, *condition_modulation = self.norm1(condition, emb=zero)
        noise_norm, *noise_modulation = self.norm1(noise, emb=now)
        # Attention
        rotary = _rotary_of(image_rotary_emb, text.shape[1], clean.count)
        image = (self.attn.to_q, self.attn.to_k, self.attn.to_v)
        own = _heads(self.attn, image, condition_norm, rotary[1]) if clean.count else None
        others = _joined(
            _heads(self.attn, _text_projections(self.attn), text_norm, rotary[0], is_text=True),
            _heads(self.attn, image, noise_norm, rotary[2]),
        )
        attended, condition_attended = _attend(self, others, own, clean)
        text_attended, noise_attended = _split(attended, text.shape[1])
        # Projections and MLPs, gated
        text = _after_attention(
            text,
            self.attn.to_add_out(text_attended),
            (self.norm2_context, self.ff_context),
            text_modulation,
        )
        mlp = (self.norm2, self.ff)
        noise = _after_attention(noise, self._out(noise_attended), mlp, noise_modulation)
        condition = _after_attention(
            condition, self._out(condition_attended), mlp, condition_modulation
        )
        return _in_range(text), torch.cat([condition, noise], dim=1)

    def _out(self, attended: Tensor) -> Tensor:
        return self.attn.to_out[1](self.attn.to_out[0](attended))  # type: ignore[no-any-return]


class CleanConditionSingleBlock(FluxSingleTransformerBlock):
    """A block with the same weights for all tokens."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: Rotary,
        joint_attention_kwargs: dict[str, CleanTokens],
    ) -> tuple[Tensor, Tensor]:
        clean, num_text = joint_attention_kwargs["clean"], encoder_hidden_states.shape[1]
        condition, noise = _split(hidden_states, clean.count)
        others = torch.cat([encoder_hidden_states, noise], dim=1)
        now, zero = temb.chunk(2)
        # Modulated norms: the conditions' at time 0
        others_norm, others_gate = self.norm(others, emb=now)
        condition_norm, condition_gate = self.norm(condition, emb=zero)
        # Attention
        rotary = _rotary_of(image_rotary_emb, num_text, clean.count)
        image = (self.attn.to_q, self.attn.to_k, self.attn.to_v)
        own = _heads(self.attn, image, condition_norm, rotary[1]) if clean.count else None
        heads = _heads(self.attn, image, others_norm, _joined(rotary[0], rotary[2], dim=0))
        attended, condition_attended = _attend(self, heads, own, clean)
        # Beside it the MLP; both projected, gated
        others = self._added(others, others_norm, attended, others_gate)
        condition = self._added(condition, condition_norm, condition_attended, condition_gate)
        text, noise = _split(others, num_text)
        return text, torch.cat([condition, noise], dim=1)

    def _added(self, x: Tensor, norm: Tensor, attended: Tensor, gate: Tensor) -> Tensor:
        mlp = self.act_mlp(self.proj_mlp(norm))
        return _in_range(x + gate[:, None] * self.proj_out(torch.cat([attended, mlp], dim=2)))


class NoiseTimeNorm(AdaLayerNormContinuous):
    """The last norm; of both time embeddings, it takes the noise's."""

    def forward(self, x: Tensor, conditioning_embedding: Tensor) -> Tensor:
        return super().forward(x, conditioning_embedding.chunk(2)[0])  # type: ignore[no-any-return]


def set_clean_conditions(transformer: FluxTransformer2DModel) -> None:
    """Give a transformer these blocks; weights, adapters and hooks stay as they are."""
    for block in transformer.transformer_blocks:
        block.__class__ = CleanConditionBlock
    for block in transformer.single_transformer_blocks:
        block.__class__ = CleanConditionSingleBlock
    transformer.norm_out.__class__ = NoiseTimeNorm
    # What diffusers compiles block by block
    transformer._repeated_blocks = [
        CleanConditionBlock.__name__,
        CleanConditionSingleBlock.__name__,
    ]


# Text and noise see everything; conditions see everything, or one another.
def _attend(
    block: Any, others: Heads, condition: Heads | None, clean: CleanTokens
) -> tuple[Tensor, Tensor]:
    # What there is to see
    own = clean.cached[block] if condition is None else condition[1:]
    if clean.keep:
        clean.cached[block] = own
    everything = _joined(others[1:], own)
    # Two calls, as their keys may differ
    backend = block.attn.processor._attention_backend
    attended = dispatch_attention_fn(others[0], *everything, backend=backend).flatten(2)
    if condition is None:
        return attended, attended[:, :0]
    visible = everything if clean.attend_to_all else own
    return attended, dispatch_attention_fn(condition[0], *visible, backend=backend).flatten(2)


def _text_projections(attn: FluxAttention) -> tuple[nn.Module, nn.Module, nn.Module]:
    return attn.add_q_proj, attn.add_k_proj, attn.add_v_proj


def _heads(
    attn: FluxAttention,
    projections: tuple[nn.Module, nn.Module, nn.Module],
    x: Tensor,
    rotary: Rotary,
    is_text: bool = False,
) -> Heads:
    # Normalized and rotated; values are not
    heads = [project(x).unflatten(-1, (-1, attn.head_dim)) for project in projections]
    norm_q = attn.norm_added_q if is_text else attn.norm_q
    norm_k = attn.norm_added_k if is_text else attn.norm_k
    query = apply_rotary_emb(norm_q(heads[0]), rotary, sequence_dim=1)
    key = apply_rotary_emb(norm_k(heads[1]), rotary, sequence_dim=1)
    return query, key, heads[2]


def _after_attention(
    x: Tensor, attended: Tensor, mlp: tuple[nn.Module, nn.Module], modulation: list[Tensor]
) -> Tensor:
    norm, feed_forward = mlp
    gates = [modulation[0][:, None], modulation[3][:, None]]
    shift, scale = modulation[1][:, None], modulation[2][:, None]
    x = x + gates[0] * attended
    return x + gates[1] * feed_forward(norm(x) * (1 + scale) + shift)


# The rotary embedding of text, conditions and noise; where the conditions' are cached, of none.
def _rotary_of(rotary: Rotary, num_text: int, count: int) -> tuple[Rotary, Rotary, Rotary]:
    cos, sin = (each.tensor_split((num_text, num_text + count)) for each in rotary)
    return (cos[0], sin[0]), (cos[1], sin[1]), (cos[2], sin[2])


def _joined(first: Any, second: Any, dim: int = 1) -> Any:
    return tuple(torch.cat(pair, dim=dim) for pair in zip(first, second, strict=True))


def _split(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    return x[:, :count], x[:, count:]


# As the stock blocks.
def _in_range(x: Tensor) -> Tensor:
    return x.clip(-65504, 65504) if x.dtype == torch.float16 else x
