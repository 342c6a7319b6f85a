"""Initialization of small FLUX-shaped networks that copies the reference before any training.

`flux_init` starts near the identity; here the untrained network is the flow whose end is the
reference (*ours*). A velocity that leads any noisy latent z_t to x is (z_t - x) / t, so with the
reference's latent for x the network has to carry z_t through, subtract the reference's token at the
same place, and divide by t:

- token values lie in the directions of a fixed isometry, and two further coordinates hold a
  constant so large that layer norm divides by nearly the same number everywhere; adaptive norms
  multiply by it and hide the constant: norms change nothing at first, and amplitudes stay linear;
- every block adds zeros, but for the last, in which one head for each 32 values subtracts the
  reference;
- the output norm's scale is 1 / t, fitted by least squares to the time embedding's features.

So all a training has to do is to change what the reference's tokens hold: their blocks see the
reference alone, in a stream of their own. For that, all blocks' other heads attend to the place
itself in the other streams, to its four neighbors and to the prompt; two heads of the first block
mark noise and depth tokens, which nothing else tells apart; and the prompt token looks up its point
in the depth as in `flux_init`. All of it is trainable.
"""

import math
from typing import Any

import torch
from torch import Tensor

from dofsuite.backbones.small.flux_init import (
    SECOND,
    attend_to_point,
    attend_to_prompt,
    rotated,
    write_prompt,
)

# Scale of token values in the residual stream. Adam changes what a block adds by about its rate
# times the number of its features, half a unit a step: beside values of 8 that is little.
CONTENT = 8.0
# Constant of two coordinates: layer norm changes the amplitude of values of mean square s by less
# than s / 1024^2 times half a token.
CONSTANT = 1024.0 * CONTENT
# Query and key weights of position: of the heads that copy, and of the others.
COPY_POSITION, PLACE_POSITION = 6.0, 3.5
# Flow times below which the velocity is no longer divided by t.
LEAST_TIME = 0.1
# Angle in radians, over times 0 to 1, of the fastest sinusoid that the output norm sees at first.
# The gain spreads its features, so that the fitted weights are small.
FASTEST, TIME_GAIN = 40.0, 16.0
# Streams and neighbors (stream, row, column) that heads attend to, in this order.
PLACES = ((1, 0, 0), (0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0), (-1, 0, 0))
# Angles by which the marking heads' queries are rotated on the stream axis: noise, depth.
MARKS = (0.5, -2.5)
MARK = 3.0


def copying_heads(token_width: int, head_width: int) -> int:
    """Return the heads that hold a token's values between them."""
    return math.ceil(token_width / head_width)


@torch.no_grad()
def start_copying(transformer: Any, grid: int = 8) -> None:
    """Overwrite a randomly initialized transformer's weights in place.

    Draws from torch's global generator.

    Args:
        transformer: A `FluxTransformer2DModel` with double and single blocks.
        grid: Tokens along a side of the images; only the point look-up depends on it.

    Raises:
        ValueError: The network is too narrow for its tokens.
    """
    # Room: token values, two constants, the mean that norms subtract, and as many for the blocks
    width, token_width = transformer.inner_dim, transformer.config.in_channels
    heads = transformer.config.num_attention_heads
    if width < token_width + 16 or heads <= copying_heads(token_width, width // heads):
        raise ValueError(f"heads: {heads} are too few to copy tokens of {token_width} values")
    basis = _basis(width)
    values, free = basis[:, :token_width], basis[:, token_width:]
    # Tokens in and out
    _pass_tokens_through(transformer, values)
    write_prompt(transformer.context_embedder)
    transformer.context_embedder.weight.mul_(CONTENT)
    transformer.context_embedder.bias.mul_(CONTENT)
    _set_constant(transformer.context_embedder.bias)
    _divide_by_time(transformer)
    # Blocks that add nothing, and attend to where something is
    for block in transformer.transformer_blocks:
        _keep_double(block, width)
        _attend_to_places(block.attn, transformer)
    for block in transformer.single_transformer_blocks:
        _keep_linear(block.norm.linear, width)
        block.proj_out.weight.zero_()
        block.proj_out.bias.zero_()
        _attend_to_places(block.attn, transformer)
        attend_to_prompt(block.attn, transformer)
    _mark_streams(transformer.transformer_blocks[0].attn, transformer, free[:, :2])
    attend_to_point(transformer.transformer_blocks[0], transformer, grid)
    _subtract_reference(transformer.single_transformer_blocks[-1], transformer, values)


def _basis(width: int) -> Tensor:
    """Return orthonormal columns [width, width - 3] of zero mean and 0 in the last two rows."""
    ones = torch.ones(width - 2, 1)
    random = torch.cat([ones, torch.randn(width - 2, width - 3)], dim=1)
    orthonormal = torch.linalg.qr(random)[0][:, 1:]
    return torch.cat([orthonormal, torch.zeros(2, width - 3)])


def _set_constant(bias: Tensor) -> None:
    bias[-2:] = torch.tensor([CONSTANT, -CONSTANT]) / math.sqrt(2)


def _pass_tokens_through(transformer: Any, values: Tensor) -> None:
    embed, unembed = transformer.x_embedder, transformer.proj_out
    embed.weight.copy_(CONTENT * values)
    embed.bias.zero_()
    _set_constant(embed.bias)
    unembed.weight.copy_(CONTENT * values.T)
    unembed.bias.zero_()


# Return what layer norm's output, times this, has: values of unit variance, of a token of `count`.
def _norm_factor(width: int, count: int) -> float:
    return math.sqrt((CONSTANT**2 + count * CONTENT**2) / width) / CONTENT


def _keep_linear(modulation: Any, width: int) -> None:
    """Let adaptive norms undo layer norm: shift 0, scale its factor, 0 for the constant, gate 1."""
    modulation.weight.zero_()
    rows = modulation.bias.view(-1, width)
    rows.zero_()
    rows[1::3] = _norm_factor(width, width) - 1
    rows[1::3, -2:] = -1.0
    rows[2::3] = 1.0


def _keep_double(block: Any, width: int) -> None:
    for modulation in (block.norm1.linear, block.norm1_context.linear):
        _keep_linear(modulation, width)
    # The prompt token's own updates stay as they are: it is copied to nobody at first.
    for linear in (block.attn.to_out[0], block.ff.net[2]):
        linear.weight.zero_()
        linear.bias.zero_()
    # They change no constant
    for linear in (block.attn.to_add_out, block.ff_context.net[2]):
        linear.weight[-2:] = 0.0
        linear.bias[-2:] = 0.0


def _divide_by_time(transformer: Any) -> None:
    """Fit the output norm's scale: (1 + scale) = factor / max(t, LEAST_TIME), 0 for the constant.

    Features are silu of the time embedding, as the norm has them; ridge regression in float64.
    """
    width, token_width = transformer.inner_dim, transformer.config.in_channels
    # Slow sinusoids alone, half cosines and half sines, well spread over the curve of silu
    embedder = transformer.time_text_embed.timestep_embedder.linear_1
    half = embedder.in_features // 2
    is_fast = 1000 * 10000 ** (-torch.arange(half) / half) > FASTEST
    embedder.weight[:, is_fast.repeat(2)] = 0.0
    embedder.weight.mul_(TIME_GAIN)
    embedder.bias.mul_(TIME_GAIN)
    # Features of all times
    t = torch.linspace(LEAST_TIME / 2, 1, 512)
    pooled = torch.zeros(len(t), transformer.config.pooled_projection_dim)
    guidance = [torch.full_like(t, 1000.0)] if transformer.config.guidance_embeds else []
    embedded = transformer.time_text_embed(t * 1000, *guidance, pooled)
    features = torch.nn.functional.silu(embedded).double()
    features = torch.cat([features, torch.ones(len(t), 1).double()], dim=1)
    factor = _norm_factor(width, 2 * token_width) / CONTENT
    wanted = factor / t.double().clamp(min=LEAST_TIME)
    ridge = 1e-5 * len(t) * torch.eye(features.shape[1]).double()
    weights = torch.linalg.solve(features.T @ features + ridge, features.T @ wanted)
    # Diffusers' order: scale, then shift
    linear = transformer.norm_out.linear
    linear.weight.zero_()
    linear.bias.zero_()
    linear.weight[: width - 2] = weights[:-1].float()
    linear.bias[: width - 2] = float(weights[-1]) - 1
    linear.bias[width - 2 : width] = -1.0


# Return the numbers of a head by which position is told: fast and second pair of rows and columns.
def _position_numbers(axes_dims: tuple[int, int, int]) -> list[tuple[int, int, float]]:
    """Return (axis, first number, frequency) of the rotary pairs that tell positions apart."""
    pairs, start = [(0, 0, 1.0)], axes_dims[0]
    for axis in (1, 2):
        pairs.append((axis, start, 1.0))
        pairs.append((axis, start + SECOND, 10000 ** (-SECOND / axes_dims[axis])))
        start += axes_dims[axis]
    return pairs


def _weigh_positions(attention: Any, axes_dims: tuple[int, int, int], weight: float) -> None:
    for norm in (attention.norm_q, attention.norm_k):
        for _, start, frequency in _position_numbers(axes_dims):
            norm.weight[start : start + 2] = weight if frequency == 1 else 0.6 * weight


def _attend_to_place(
    attention: Any, head: int, place: tuple[int, int, int], axes_dims: tuple[int, int, int]
) -> None:
    """Let a head attend to the token (stream, row, column) further, by position alone."""
    heads = attention.heads
    query, key = attention.to_q, attention.to_k
    for projection in (query, key):
        projection.weight.view(heads, -1, projection.in_features)[head] = 0.0
        projection.bias.view(heads, -1)[head] = 0.0
    for axis, start, frequency in _position_numbers(axes_dims):
        query.bias.view(heads, -1)[head, start : start + 2] = rotated(place[axis] * frequency)
        key.bias.view(heads, -1)[head, start : start + 2] = 1.0


def _attend_to_places(attention: Any, transformer: Any) -> None:
    axes_dims = transformer.config.axes_dims_rope
    _weigh_positions(attention, axes_dims, PLACE_POSITION)
    # The last head is the prompt's; the two before it stay free, or mark streams.
    for head, place in zip(range(attention.heads - 3), PLACES, strict=False):
        _attend_to_place(attention, head, place, axes_dims)


def _mark_streams(attention: Any, transformer: Any, directions: Tensor) -> None:
    """Mark noise and depth tokens by constants: a head of them attends to the prompt's.

    The prompt has stream 0 as the noise, so an angle on the stream axis chooses the stream whose
    tokens find it; the keys of image tokens, in numbers that no query has, match nothing.
    """
    stream, rows = transformer.config.axes_dims_rope[:2]
    heads, width = attention.heads, transformer.inner_dim
    per_head = width // heads
    idle = [SECOND, SECOND + 1, stream + 4, stream + 5, stream + rows + 4, stream + rows + 5]
    for number, angle in enumerate(MARKS):
        head = heads - 2 - number
        # Queries and keys
        for projection in (attention.to_q, attention.to_k, attention.add_k_proj):
            projection.weight.view(heads, per_head, width)[head] = 0.0
            projection.bias.view(heads, per_head)[head] = 0.0
        attention.to_q.bias.view(heads, per_head)[head, :2] = rotated(-angle)
        attention.add_k_proj.bias.view(heads, per_head)[head, :2] = 1.0
        attention.to_k.bias.view(heads, per_head)[head, idle] = 1.0
        # Values: one of the prompt, none of the image tokens
        for projection in (attention.to_v, attention.add_v_proj):
            projection.weight.view(heads, per_head, width)[head] = 0.0
            projection.bias.view(heads, per_head)[head] = 0.0
        attention.add_v_proj.bias.view(heads, per_head)[head, 0] = 1.0
        attention.to_out[0].weight[:, head * per_head] = CONTENT * MARK * directions[:, number]


def _subtract_reference(block: Any, transformer: Any, values: Tensor) -> None:
    """Let heads of the last block subtract the values of the reference's token at the same place.

    Noise tokens alone are read after it: what the other streams' tokens subtract is unseen.
    """
    attention, axes_dims = block.attn, transformer.config.axes_dims_rope
    width = transformer.inner_dim
    per_head = width // attention.heads
    _weigh_positions(attention, axes_dims, COPY_POSITION)
    token_width, scale = values.shape[1], math.sqrt(CONTENT)
    for head in range(copying_heads(token_width, per_head)):
        _attend_to_place(attention, head, (1, 0, 0), axes_dims)
        part = values[:, head * per_head : (head + 1) * per_head]
        first, count = head * per_head, part.shape[1]
        attention.to_v.weight[first : first + per_head] = 0.0
        attention.to_v.bias[first : first + per_head] = 0.0
        attention.to_v.weight[first : first + count] = scale * part.T
        block.proj_out.weight[:, first : first + count] = -scale * part
