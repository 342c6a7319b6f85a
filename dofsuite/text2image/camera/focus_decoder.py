"""Decoder of the focus predictor: tokens to a saliency map and task tokens.

After VST (ICCV 2021): learned task tokens and patch tokens share a transformer; the patch tokens
are then upsampled in stages with skip connections from the encoder's finer maps, and attend to the
task token at each stage (patch-task attention). VST: a saliency and a boundary token. Here:
saliency, focus and scale (*inferred*: a focus and a scale token are the natural extension).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dofsuite.text2image.camera.focus_encoder import Block, Encoded

TASKS = ("saliency", "focus", "scale")


class Decoded(NamedTuple):
    """What the decoder returns; g is the token grid's side."""

    saliency_logits: Tensor  # [b, 1, 4 g, 4 g]
    focus: Tensor  # [b, c] focus token
    scale: Tensor  # [b, c] scale token


class PatchTaskAttention(nn.Module):
    """Patch-task attention: features + sigmoid(q.k) * value of the task token (VST)."""

    def __init__(self, map_width: int, token_width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(map_width, map_width, 1)
        self.key_value = nn.Linear(token_width, 2 * map_width)

    def forward(self, features: Tensor, task: Tensor) -> Tensor:
        """[b, f, h, w] and the task token [b, c] -> [b, f, h, w]."""
        key, value = self.key_value(task)[..., None, None].chunk(2, dim=1)
        logits = (self.query(features) * key).sum(1, keepdim=True) / math.sqrt(features.shape[1])
        return features + torch.sigmoid(logits) * value


class Upsampling(nn.Module):
    """Upsample a coarse map by 2, with a skip connection and patch-task attention."""

    def __init__(self, coarse_width: int, skip_width: int, width: int, token_width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(coarse_width, width, 1)
        self.join = nn.Sequential(
            nn.Conv2d(width + skip_width, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU()
        )
        self.task_attention = PatchTaskAttention(width, token_width)

    def forward(self, coarse: Tensor, skip: Tensor, task: Tensor) -> Tensor:
        """[b, coarse, g, g], [b, skip, 2 g, 2 g] and [b, c] -> [b, width, 2 g, 2 g]."""
        size = skip.shape[-2:]
        finer = nn.functional.interpolate(self.reduce(coarse), size=size, mode="bilinear")
        return self.task_attention(finer + self.join(torch.cat([finer, skip], dim=1)), task)


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
        # Joint transformer over task and patch tokens, [b, 3 + n, c].
        tokens = torch.cat([self.tasks.expand(len(encoded.tokens), -1, -1), encoded.tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        saliency, focus, scale = tokens[:, : len(TASKS)].unbind(1)

        # Patch tokens back to a map [b, c, g, g], upsampled to 4 g.
        patches = tokens[:, len(TASKS) :].transpose(1, 2)
        grid = math.isqrt(patches.shape[-1])
        middle = self.to_middle(patches.unflatten(-1, (grid, grid)), encoded.middle, saliency)
        return Decoded(self.saliency(self.to_fine(middle, encoded.fine, saliency)), focus, scale)
