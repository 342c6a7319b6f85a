"""A start for small FLUX-shaped networks that can already copy and point: no step is spent on finding that out.

Diffusers' default initialisation suits a network that pretrained weights will overwrite. Trained
from it, a small network spends its first thousands of steps on learning that token (y, x) of the
reference belongs to token (y, x) of the noise, and never finds the place that a prompt names.
*Ours*: a first form of this start (all heads on their own place) copied a held-out photograph to
.009 mean error in 250 steps, where the default start stood at .22 after 170 (one run each, 2 cores,
2026-11-21). A pretrained FLUX knows both from its own training.

What is laid down, all of it trainable:
- tokens pass through: the way in is an isometry and the way out its transpose, modulations start
open;
- half of the heads look at their own place in one of the three streams (rotary positions alone
decide);
- in the first double block, the prompt token looks at the depth token at (x, y), its first two
numbers in [-1, 1];
- in every single block, one head of every image token hears the prompt token.
"""

from __future__ import annotations

import math

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

OWN_PLACE = 3.0
"""Query and key weight of both image axes' fastest rotary frequencies; larger looks more narrowly."""
POINT_PLACE, POINT_STREAM = 20.0, 10.0
"""Query weight of the frequencies by which a prompt token finds its point, and the depth stream."""
SECOND = 2
"""Offset of an axis's second rotary frequency: slow enough not to alias over a small grid."""


@torch.no_grad()
def start_near_identity(transformer: FluxTransformer2DModel, grid: int = 8) -> None:
    """Overwrite a randomly initialised transformer's weights in place; draws from torch's global generator.

    Args:
        transformer: Random weights, at least one double block.
        grid: Tokens along a side of the pictures to come; only the pointing depends on it.
    """
    _pass_tokens_through(transformer)
    _write_prompt(transformer.context_embedder)
    for name, module in transformer.named_modules():
        kind = name.rsplit(".", 2)[-2:]
        if kind[-1] == "linear" and kind[0] in {"norm", "norm1", "norm1_context"}:
            _open_gates(module, transformer.inner_dim)
        elif kind[-1] in {"norm_q", "norm_k"}:
            _look_near(module, transformer.config.axes_dims_rope)
        elif kind[-1] == "attn":
            _look_at_streams(module, transformer.config.num_attention_heads)
    for block in transformer.single_transformer_blocks:
        _hear_the_prompt(block.attn, transformer)
    _point(transformer.transformer_blocks[0], transformer, grid)


def _pass_tokens_through(transformer: FluxTransformer2DModel) -> None:
    """Make the way in an isometry beside a constant, and the way out its transpose less that constant.

    Every block normalises its tokens. Without the constant an even patch, as most of a depth map
    are, would keep its sign and lose its value.
    """
    way_in, way_out = transformer.x_embedder, transformer.proj_out
    nn.init.orthogonal_(way_in.weight)
    nn.init.normal_(way_in.bias)
    way_out.weight.copy_(way_in.weight.T)
    way_out.bias.copy_(-(way_in.bias @ way_in.weight) / math.sqrt(2))
    transformer.norm_out.linear.weight.mul_(0.1)
    transformer.norm_out.linear.bias.zero_()


def _signature(width: int) -> Tensor:
    """Return the constant part of a prompt token, of unit variance, by which it is told from image tokens."""
    signature = torch.ones(width)
    signature[1::2] = -1.0
    signature[:8] = 0.0
    return signature


def _write_prompt(embedder: nn.Linear) -> None:
    """Write a prompt's first three numbers as differences of feature pairs, the rest faintly, beside the signature."""
    nn.init.normal_(embedder.weight, std=0.05)
    embedder.weight[:8] = 0.0
    embedder.weight[8:, :3] = 0.0
    for number in range(3):
        embedder.weight[2 * number, number] = 3.0
        embedder.weight[2 * number + 1, number] = -3.0
    embedder.bias.copy_(_signature(len(embedder.bias)))


def _open_gates(modulation: nn.Linear, width: int) -> None:
    """Start adaptive norms at shift 0, scale 1 and gate 1/2, nearly the same at all times.

    A double block's rows are (shift, scale, gate) of attention, then of the MLP; a single block's
    are one triple.
    """
    modulation.weight.mul_(0.1)
    rows = modulation.bias.view(-1, width)
    rows.zero_()
    rows[2::3] = 0.5


def _look_near(norm: nn.Module, axes_dims: tuple[int, int, int]) -> None:
    """Weigh the fastest rotary frequencies up, so that attention falls off within a token or two."""
    stream, rows, _ = axes_dims
    weight = torch.ones_like(norm.weight)
    weight[:2] = 0.7 * OWN_PLACE
    for start in (stream, stream + rows):
        weight[start : start + 2] = OWN_PLACE
        weight[start + SECOND : start + SECOND + 2] = 0.6 * OWN_PLACE
    norm.weight.copy_(weight)


def _turned(angle: float | Tensor) -> Tensor:
    """Return the pair (1, 1) turned by an angle, as rotary embeddings turn."""
    angle = torch.as_tensor(angle, dtype=torch.float32)
    return torch.stack([angle.cos() - angle.sin(), angle.sin() + angle.cos()], dim=-1)


def _look_at_streams(attention: nn.Module, heads: int) -> None:
    """Give half of the heads a common query and key, so that rotation decides; head h looks at stream h mod 3.

    Streams are the values of the first position axis: 0 noise, 1 reference, 2 depth. A query turned
    by h on that axis's fastest frequency meets the keys that lie h streams further.
    """
    own = heads // 2
    for projection in (attention.to_q, attention.to_k):
        projection.weight.view(heads, -1, projection.in_features)[:own] *= 0.5
        projection.bias.view(heads, -1)[:own] = 1.0
    attention.to_q.bias.view(heads, -1)[:own, :2] = _turned((torch.arange(own) % 3).float())


def _hear_the_prompt(attention: nn.Module, transformer: FluxTransformer2DModel) -> None:
    """Let the last head attend to what carries the prompt's signature, wherever it stands (slow frequencies only)."""
    heads, width = transformer.config.num_attention_heads, transformer.inner_dim
    stream, rows, columns = transformer.config.axes_dims_rope
    ends = torch.tensor([stream, stream + rows, stream + rows + columns])
    slow = torch.cat([ends - 2, ends - 1])
    idle = torch.tensor(
        [SECOND, SECOND + 1, stream + 4, stream + 5, stream + rows + 4, stream + rows + 5]
    )
    query, key = attention.to_q, attention.to_k
    for projection in (query, key):
        projection.weight.view(heads, -1, width)[-1] = 0.0
        projection.bias.view(heads, -1)[-1] = 0.0
    query.bias.view(heads, -1)[-1, slow] = 1.0
    key.weight.view(heads, -1, width)[-1, slow] = _signature(width) / math.sqrt(width)
    key.bias.view(heads, -1)[-1, idle] = (
        4.0  # keeps the key of an image token, which is normalised, from growing
    )


def _point(block: nn.Module, transformer: FluxTransformer2DModel, grid: int) -> None:
    """Let two heads of the prompt token look at the depth token at (x, y).

    A rotary angle is linear in the position. The query pair (1, 1) + u (-1, 1) is (1, 1) turned by
    atan(u), so with u linear in x it meets the keys around column (x + 1) / 2 * grid; 10 % more
    than the small-angle slope keeps the error below half a token.
    """
    attention, width, heads = block.attn, transformer.inner_dim, 2
    stream, rows, columns = transformer.config.axes_dims_rope
    per_head = width // transformer.config.num_attention_heads
    theta = 10000 ** (-SECOND / columns)
    places = {1: stream + SECOND, 0: stream + rows + SECOND}
    query, key = attention.add_q_proj, attention.add_k_proj
    weight, bias = query.weight.view(-1, per_head, width), query.bias.view(-1, per_head)
    used = [0, 1, *(place + k for place in places.values() for k in range(2))]
    weight[:, used], bias[:, used] = 0.0, 0.0
    weight[:heads], bias[:heads] = 0.0, 0.0
    bias[:heads, :2] = _turned(2.0)
    centre = theta * (grid - 1) / 2
    for number, place in places.items():
        bias[:heads, place : place + 2] = _turned(centre)
        slope = 1.1 * theta * grid / 2 / 3.0 * _turned(centre + math.pi / 2) / 2
        weight[:heads, place : place + 2, 2 * number] = slope
        weight[:heads, place : place + 2, 2 * number + 1] = -slope
        attention.norm_added_q.weight[place : place + 2] = POINT_PLACE
    attention.norm_added_q.weight[:2] = POINT_STREAM
    key.weight.view(-1, per_head, width)[:heads] = 0.0
    key.bias.view(-1, per_head)[:heads] = -1.0  # it does not look at itself
    attention.to_k.weight.view(-1, per_head, width)[:heads] = 0.0  # keys by position alone
    modulation = block.norm1_context.linear
    modulation.weight[: 2 * width] = 0.0
