"""Two-stream image/depth encoder with cross-attention, for the focus predictor.

After the RGB-D Visual Saliency Transformer (VST, ICCV 2021): one encoder per modality, then layers
in which each modality attends to the other. VST: T2T-ViT_t-14 with 7x7, 3x3 and 3x3 soft splits.
Here: a stem of convolutions with the same windows and strides, because it does the same with stock
operators, and its maps serve the decoder as skip connections.

Shapes: b batch, n tokens of a g x g grid, c token width, f width of the finer maps.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Encoded(NamedTuple):
    """Tokens, and the stem's maps before them; of one modality (width f), or both merged (2 f)."""

    tokens: Tensor  # [b, n, c]
    middle: Tensor  # [b, 2 f, 2 g, 2 g]
    fine: Tensor  # [b, 2 f, 4 g, 4 g]


class Attention(nn.Module):
    """Multi-head attention of `queries` [b, m, c] over `context` [b, n, c]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """[b, m, c] and [b, n, c] -> [b, m, c]."""
        key, value = self.key_value(context).chunk(2, dim=-1)
        output = nn.functional.scaled_dot_product_attention(
            self._by_head(self.query(queries)), self._by_head(key), self._by_head(value)
        )
        return self.out(output.transpose(1, 2).flatten(2))

    def _by_head(self, tokens: Tensor) -> Tensor:
        """[b, n, c] -> [b, heads, n, c / heads]."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer layer: self-attention, or cross-attention to a context."""

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
        context = queries if context is None else self.norm_attention(context)
        tokens = tokens + self.attention(queries, context)
        return tokens + self.mlp(self.norm_mlp(tokens))


class Stem(nn.Module):
    """An image to tokens by three convolutions; the maps of the first two serve the decoder."""

    def __init__(self, channels: int, width: int, fine_width: int, patch_px: int) -> None:
        super().__init__()
        self.fine = _conv_block(channels, fine_width, 7, patch_px // 4)
        self.middle = _conv_block(fine_width, fine_width, 3, 2)
        self.tokens = nn.Conv2d(fine_width, width, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> Encoded:
        """[b, channels, s, s] -> tokens and maps."""
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
        # Per modality (image, depth): self-attention layers, then cross-attention layers.
        self.positions = nn.Parameter(0.02 * torch.randn(1, num_tokens, width))
        self.encoders = nn.ModuleList([_blocks(layers, width, heads) for _ in range(2)])
        self.cross_blocks = nn.ModuleList([_blocks(cross_layers, width, heads) for _ in range(2)])
        self.merge = nn.Linear(2 * width, width)

    def forward(self, image: Tensor, depth: Tensor) -> Encoded:
        # Each modality on its own, [b, n, c].
        image_stem, depth_stem = self.stems[0](image), self.stems[1](depth)
        image_tokens = self._encode(self.encoders[0], image_stem.tokens)
        depth_tokens = self._encode(self.encoders[1], depth_stem.tokens)

        # Cross-attention: both layers read the tokens of the layer before.
        for image_layer, depth_layer in zip(*self.cross_blocks, strict=True):
            image_before = image_tokens
            image_tokens = image_layer(image_tokens, depth_tokens)
            depth_tokens = depth_layer(depth_tokens, image_before)

        return Encoded(
            self.merge(torch.cat([image_tokens, depth_tokens], dim=-1)),
            torch.cat([image_stem.middle, depth_stem.middle], dim=1),
            torch.cat([image_stem.fine, depth_stem.fine], dim=1),
        )

    def _encode(self, encoder: Any, tokens: Tensor) -> Tensor:
        tokens = tokens + self.positions
        for layer in encoder:
            tokens = layer(tokens)
        return tokens


def _blocks(count: int, width: int, heads: int) -> nn.ModuleList:
    return nn.ModuleList([Block(width, heads) for _ in range(count)])


def _conv_block(channels: int, width: int, window: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, window, stride=stride, padding=window // 2)
    return nn.Sequential(convolution, nn.GroupNorm(8, width), nn.GELU())
