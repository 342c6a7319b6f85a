"""Two transformers that look at each other: the encoder of image and depth behind the focus predictor.

After the RGB-D Visual Saliency Transformer (VST, ICCV 2021): one encoder a modality, then layers in
which each modality attends to the other. Paper: T2T-ViT_t-14 with 7x7, 3x3 and 3x3 soft splits.
Here: convolutions of the same windows and strides make the tokens, because they do the same with
    stock operators and hand their maps to the decoder.

Shapes: b batch, n tokens of a g x g grid, c width of a token, f width of the finer maps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Encoded(NamedTuple):
    """Tokens [b, n, c] of both modalities merged; the maps [b, 2 f, 2 g, 2 g] and [b, 2 f, 4 g, 4 g] before them."""

    tokens: Tensor
    middle: Tensor
    fine: Tensor


class Attention(nn.Module):
    """Multi-head attention of `queries` [b, m, c] over `context` [b, n, c]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Return what each query found, [b, m, c]."""
        key, value = self.key_value(context).chunk(2, dim=-1)
        query, key, value = (self._by_head(tokens) for tokens in (self.query(queries), key, value))
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(found.transpose(1, 2).flatten(2))

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """One pre-norm transformer layer; given a context it attends to that instead of to itself."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 3) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width)
        )

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """[b, m, c] and context [b, n, c] -> [b, m, c]."""
        queries = self.norm_attention(tokens)
        tokens = tokens + self.attention(
            queries, queries if context is None else self.norm_attention(context)
        )
        return tokens + self.mlp(self.norm_mlp(tokens))


class Stem(nn.Module):
    """An image to tokens in three steps; the maps of the first two serve the decoder."""

    def __init__(self, channels: int, width: int, fine_width: int, patch_px: int) -> None:
        super().__init__()
        self.fine = _step(channels, fine_width, 7, patch_px // 4)
        self.middle = _step(fine_width, fine_width, 3, 2)
        self.tokens = nn.Conv2d(fine_width, width, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> Encoded:
        """[b, channels, size, size] -> tokens and maps."""
        fine = self.fine(image)
        middle = self.middle(fine)
        return Encoded(self.tokens(middle).flatten(2).transpose(1, 2), middle, fine)


class CrossModalEncoder(nn.Module):
    """Image [b, 3, s, s] and depth [b, depth_channels, s, s] -> merged tokens and maps."""

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        cross_layers: int,
        fine_width: int,
        patch_px: int,
        num_tokens: int,
        depth_channels: int,
    ) -> None:
        super().__init__()
        self.stems = nn.ModuleList(
            [Stem(channels, width, fine_width, patch_px) for channels in (3, depth_channels)]
        )
        self.positions = nn.Parameter(0.02 * torch.randn(1, num_tokens, width))
        self.encoders = nn.ModuleList([_blocks(layers, width, heads) for _ in range(2)])
        self.cross_blocks = nn.ModuleList([_blocks(cross_layers, width, heads) for _ in range(2)])
        self.merge = nn.Linear(2 * width, width)

    def forward(self, image: Tensor, depth: Tensor) -> Encoded:
        """Encode each, let each look at the other, merge."""
        of_image, of_depth = self.stems[0](image), self.stems[1](depth)
        image_tokens = self._encode(self.encoders[0], of_image.tokens)
        depth_tokens = self._encode(self.encoders[1], of_depth.tokens)
        for image_layer, depth_layer in zip(*self.cross_blocks, strict=True):
            image_tokens, depth_tokens = (
                image_layer(image_tokens, depth_tokens),
                depth_layer(depth_tokens, image_tokens),
            )
        return Encoded(
            self.merge(torch.cat([image_tokens, depth_tokens], dim=-1)),
            torch.cat([of_image.middle, of_depth.middle], dim=1),
            torch.cat([of_image.fine, of_depth.fine], dim=1),
        )

    def _encode(self, tower: nn.ModuleList, tokens: Tensor) -> Tensor:
        tokens = tokens + self.positions
        for layer in tower:
            tokens = layer(tokens)
        return tokens


def _blocks(count: int, width: int, heads: int) -> nn.ModuleList:
    return nn.ModuleList([Block(width, heads) for _ in range(count)])


def _step(channels: int, width: int, window: int, stride: int) -> nn.Sequential:
    """One convolution of a stem, with its norm and curve."""
    convolution = nn.Conv2d(channels, width, window, stride=stride, padding=window // 2)
    return nn.Sequential(convolution, nn.GroupNorm(8, width), nn.GELU())
