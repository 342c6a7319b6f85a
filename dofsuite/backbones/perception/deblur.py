"""Restoration of defocused photographs: a small U-Net of residual convolutions.

NAFNet's plan (arXiv 2204.04676): a U-Net with skip additions, whose output is added to its input.
Here: plain residual blocks without normalization and without attention over the whole image
(*ours*: so a pixel depends on its surroundings within `reach_px` alone, and tiles with that margin
give what the whole image gives), and the finest scale is half the image's (pixel unshuffle).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle, relu

from dofsuite.backbones.perception.frozen import Frozen

OnTile = Callable[[int, int], object]
TILE_PX = 1024


class RestorationConfig(NamedTuple):
    # Channels at half the image's size; twice as many at each coarser scale.
    width: int = 24
    # Residual blocks of the encoder's scales, from fine to coarse; the decoder has as many.
    blocks: tuple[int, ...] = (2, 2)
    # Residual blocks at the coarsest scale.
    middle_blocks: int = 4


def _start_at_zero(convolution: nn.Conv2d) -> None:
    for weight in convolution.parameters():
        nn.init.zeros_(weight)


class ResidualBlock(nn.Module):
    """x + conv3(relu(conv3(x))); the second convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        _start_at_zero(self.second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(relu(self.first(x)))


def _residual_blocks(count: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


class RestorationNet(nn.Module):
    """Image in, image out; a new network returns its input."""

    def __init__(self, config: RestorationConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.width
        self.first = nn.Conv2d(12, channels, 3, padding=1)
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for count in config.blocks:
            self.encoder.append(_residual_blocks(count, channels))
            self.down.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            # 1 x 1, then pixel shuffle: twice the size, half the channels
            self.up.append(nn.Conv2d(2 * channels, 4 * channels, 1))
            self.decoder.append(_residual_blocks(count, channels))
            channels *= 2
        self.middle = _residual_blocks(config.middle_blocks, channels)
        self.last = nn.Conv2d(config.width, 12, 3, padding=1)
        _start_at_zero(self.last)

    @property
    def multiple_px(self) -> int:
        """Sides of an input are multiples of this."""
        return 2 ** (1 + len(self.config.blocks))

    @property
    def reach_px(self) -> int:
        """How far away a pixel still matters, at most; a multiple of `multiple_px`.

        A 3 x 3 convolution reaches one pixel of its scale; what changes the scale reaches none
        beyond the coarser pixel.
        """
        blocks = self.config.blocks
        reach = 2 * 2 + 2 * self.config.middle_blocks * self.multiple_px
        reach += sum(2 * 2 * count * 2 ** (1 + level) for level, count in enumerate(blocks))
        return -(-reach // self.multiple_px) * self.multiple_px

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore display values in [0, 1]; sides are multiples of `multiple_px`."""
        x = self.first(pixel_unshuffle(image - 0.5, 2))
        skipped = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x)
            skipped.append(x)
            x = down(x)
        x = self.middle(x)
        for up, blocks in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = blocks(pixel_shuffle(up(x), 2) + skipped.pop())
        return image + pixel_shuffle(self.last(x), 2)


class DeblurModel(Frozen):
    """A restoration network for images of any size."""

    def __init__(self, network: RestorationNet) -> None:
        super().__init__(network)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore display values; the result is not clamped."""
        # The border is repeated up to a size that the network halves evenly
        height, width = image.shape[-2:]
        multiple = self.network.multiple_px
        padding = (0, -width % multiple, 0, -height % multiple)
        padded = pad(image.to(self.dtype), padding, mode="replicate") if any(padding) else image
        return self.network(padded.to(self.dtype))[..., :height, :width].to(image.dtype)

    @torch.no_grad()
    def restore(
        self,
        image: Float[Tensor, "3 h w"],
        tile_px: int = TILE_PX,
        on_tile: OnTile = lambda done, total: None,
    ) -> Float[Tensor, "3 h w"]:
        """Restore a photograph of any size tile by tile: what `forward` gives, in bounded memory.

        Each tile is computed with a margin as wide as the network sees, so there are no seams.

        Args:
            image: Display values in [0, 1].
            tile_px: Side of a tile without its margin; rounded up to what the network halves
                evenly.
            on_tile: Called with (tiles done, tiles).

        Returns:
            Display values, clamped to [0, 1].
        """
        height, width = image.shape[-2:]
        multiple, margin = self.network.multiple_px, self.network.reach_px
        tile_px = -(-tile_px // multiple) * multiple
        corners = [(y, x) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
        restored = torch.empty_like(image)
        for done, (top, left) in enumerate(corners, start=1):
            # The tile with its margin, whose corner the network halves as that of the whole
            rows = slice(max(0, top - margin), min(height, top + tile_px + margin))
            columns = slice(max(0, left - margin), min(width, left + tile_px + margin))
            output = self(image[None, :, rows, columns])[0]
            # Without it
            bottom, right = min(height, top + tile_px), min(width, left + tile_px)
            restored[:, top:bottom, left:right] = output[
                :,
                top - rows.start : bottom - rows.start,
                left - columns.start : right - columns.start,
            ]
            on_tile(done, len(corners))
        return restored.clamp_(0, 1)
