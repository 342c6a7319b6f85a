"""From tokens to a saliency map and back to task tokens: the decoder of the focus predictor.

After VST (ICCV 2021): learned task tokens go through a transformer together with the patch tokens;
the patch tokens are then upsampled in steps, joined by the encoder's finer maps, and asked at each
step how much they belong to the task token (patch-task attention). Paper: a saliency and a boundary
token. Here: saliency, focus and scale (*inferred*, facts
E: a focus and a scale token are the natural extension).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dofsuite.text2image.camera.focus_encoder import Block, Encoded

TASKS = ("saliency", "focus", "scale")


class Decoded(NamedTuple):
    """Saliency before the sigmoid [b, 1, 4 g, 4 g], and the tokens [b, c] that speak for focus and for scale."""

    saliency_logits: Tensor
    focus: Tensor
    scale: Tensor


class PatchTaskAttention(nn.Module):
    """Each place of a map takes of the task's value as much as its sigmoid attention to the task says (VST)."""

    def __init__(self, map_width: int, token_width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(map_width, map_width, 1)
        self.key_value = nn.Linear(token_width, 2 * map_width)

    def forward(self, features: Tensor, task: Tensor) -> Tensor:
        """[b, f, h, w] and the task token [b, c] -> [b, f, h, w]."""
        key, value = self.key_value(task)[..., None, None].chunk(2, dim=1)
        share = torch.sigmoid(
            (self.query(features) * key).sum(1, keepdim=True) / math.sqrt(features.shape[1])
        )
        return features + share * value


class Upsampling(nn.Module):
    """Twice the resolution: a coarse map, joined by the encoder's map of that resolution, asked for the task."""

    def __init__(self, coarse_width: int, skip_width: int, width: int, token_width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(coarse_width, width, 1)
        self.join = nn.Sequential(
            nn.Conv2d(width + skip_width, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU()
        )
        self.ask = PatchTaskAttention(width, token_width)

    def forward(self, coarse: Tensor, skip: Tensor, task: Tensor) -> Tensor:
        """[b, coarse, g, g], [b, skip, 2 g, 2 g] and [b, c] -> [b, width, 2 g, 2 g]."""
        finer = nn.functional.interpolate(
            self.reduce(coarse), size=skip.shape[-2:], mode="bilinear"
        )
        return self.ask(finer + self.join(torch.cat([finer, skip], dim=1)), task)


class SaliencyDecoder(nn.Module):
    """Encoded image and depth -> saliency and task tokens."""

    def __init__(self, width: int, heads: int, layers: int, fine_width: int) -> None:
        super().__init__()
        self.tasks = nn.Parameter(0.02 * torch.randn(1, len(TASKS), width))
        self.layers = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.to_middle = Upsampling(width, 2 * fine_width, fine_width, width)
        self.to_fine = Upsampling(fine_width, 2 * fine_width, fine_width, width)
        self.saliency = nn.Conv2d(fine_width, 1, 1)

    def forward(self, encoded: Encoded) -> Decoded:
        """Run the tokens with the task tokens, then upsample to four times the grid."""
        tokens = torch.cat([self.tasks.expand(len(encoded.tokens), -1, -1), encoded.tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        saliency, focus, scale = tokens[:, : len(TASKS)].unbind(1)
        patches = tokens[:, len(TASKS) :].transpose(1, 2)
        grid = math.isqrt(patches.shape[-1])
        middle = self.to_middle(patches.unflatten(-1, (grid, grid)), encoded.middle, saliency)
        return Decoded(self.saliency(self.to_fine(middle, encoded.fine, saliency)), focus, scale)
