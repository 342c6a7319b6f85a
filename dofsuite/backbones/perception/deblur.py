"""Restoration of defocused photographs: a bank of inverse filters, and a network that chooses.

1. The light is filtered by the Wiener inverses of discs of many radii (`inverse_discs`).
2. A small network reads how strong the gradients of each are in cells of 8 x 8 px, and returns for
   each cell the probabilities of the radii: a wrong inverse rings, the right one does not.
3. A photograph has few radii: their shares of the whole image are estimated from all cells (EM for
   the weights of a mixture), and decide with the cell's own probabilities (*ours*).
4. The inverses are mixed by these, in linear light.
5. A U-Net on the input and the mixture removes noise and rings. NAFNet's plan (arXiv 2204.04676):
   skip additions, and the output is added to the mixture; here plain residual blocks without
   normalization, and the finest scale is half the image's (pixel unshuffle).

But for the shares, a pixel depends on its surroundings within `reach_px` alone. So tiles with that
margin, of which all are looked at before the first is restored, give what the whole image gives.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import (
    interpolate,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
)

from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.backbones.perception.inverse_discs import (
    NOISE_TO_SIGNAL,
    InverseDiscs,
    log_gradients,
)
from dofsuite.backbones.perception.radius_choice import (
    CELL_PX,
    Choice,
    RadiusChoice,
    cell_likelihoods,
    image_shares,
    mixture_weights,
)
from dofsuite.backbones.perception.residual_blocks import residual_blocks, start_at_zero
from dofsuite.backbones.perception.tiles import cut_tiles
from dofsuite.optics import linear_to_srgb, srgb_to_linear

OnTile = Callable[[int, int], object]
TILE_PX = 1024
# Below it a radius is left out of the mixture of a cell.
SMALLEST_PROBABILITY = 1e-3


class RestorationConfig(NamedTuple):
    # Smallest and largest radius of the inverses, and their number; log-spaced.
    radius_px: tuple[float, float] = (0.8, 9.5)
    radii: int = 28
    # Of the inverses.
    reach_px: int = 48
    # Channels of the network that chooses.
    choice_width: int = 64
    # Channels of the U-Net at half the image's size; twice as many at each coarser scale.
    width: int = 24
    # Residual blocks of the encoder's scales, from fine to coarse; the decoder has as many.
    blocks: tuple[int, ...] = (2, 2)
    # Residual blocks at the coarsest scale.
    middle_blocks: int = 4

    @property
    def radii_px(self) -> list[float]:
        """The radii that have an inverse."""
        low, high = self.radius_px
        steps = max(self.radii - 1, 1)
        return [low * (high / low) ** (number / steps) for number in range(self.radii)]


class Restored(NamedTuple):
    """A restoration and what it was made from: display values.

    Attributes:
        image: [b, 3, h, w].
        mixture: [b, 3, h, w], of inverses, in [0, 1].
    """

    image: Tensor
    mixture: Tensor


class RestorationNet(nn.Module):
    """Image in, image out; a new network returns its input."""

    def __init__(self, config: RestorationConfig) -> None:
        super().__init__()
        self.config = config
        # The inverses and their choice
        levels = len(NOISE_TO_SIGNAL)
        self.inverses = InverseDiscs(config.radii_px, config.reach_px)
        self.choice = RadiusChoice(
            2 * (config.radii * levels + 1), config.choice_width, config.radii
        )
        # The U-Net: input, the mixture at each level, radius and share
        channels = config.width
        self.first = nn.Conv2d(12 * (1 + levels) + 2, channels, 3, padding=1)
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for count in config.blocks:
            self.encoder.append(residual_blocks(count, channels))
            self.down.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
            # 1 x 1, then pixel shuffle: twice the size, half the channels
            self.up.append(nn.Conv2d(2 * channels, 4 * channels, 1))
            self.decoder.append(residual_blocks(count, channels))
            channels *= 2
        self.middle = residual_blocks(config.middle_blocks, channels)
        self.last = nn.Conv2d(config.width, 12, 3, padding=1)
        start_at_zero(self.last)

    @property
    def multiple_px(self) -> int:
        """Sides of an input are multiples of this: the U-Net's coarsest pixel, two cells."""
        return max(2 ** (1 + len(self.config.blocks)), 2 * CELL_PX)

    @property
    def choice_reach_px(self) -> int:
        """How far away a pixel still matters to the choice in a cell."""
        return self._rounded(self.choice.reach_px() + self.config.reach_px)

    @property
    def reach_px(self) -> int:
        """How far away a pixel or a cell still matters when the choice is made.

        A 3 x 3 convolution reaches one pixel of its scale; what changes the scale reaches none
        beyond the coarser pixel, a cell that is enlarged reaches its neighbor.
        """
        blocks = self.config.blocks
        reach = 2 * 2 + 2 * self.config.middle_blocks * 2 ** (1 + len(blocks))
        reach += sum(2 * 2 * count * 2 ** (1 + level) for level, count in enumerate(blocks))
        return self._rounded(reach + max(self.config.reach_px, 2 * CELL_PX))

    def _rounded(self, reach_px: int) -> int:
        return -(-reach_px // self.multiple_px) * self.multiple_px

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore display values in [0, 1]; sides are multiples of `multiple_px`."""
        pad_px = self.config.reach_px
        return self.restored(image, self.chosen(image, pad_px), pad_px).image

    def chosen(self, image: Float[Tensor, "b 3 h w"], pad_px: int) -> Choice:
        """Choose from each cell's surroundings.

        Args:
            image: Display values in [0, 1].
            pad_px: Border of the inverses: below their reach it costs less and wraps around.
        """
        return self.choice(self.features(srgb_to_linear(image), pad_px))

    def restored(
        self,
        image: Float[Tensor, "b 3 h w"],
        choice: Choice,
        pad_px: int,
        shares: Float[Tensor, "b k"] | None = None,
    ) -> Restored:
        """Mix the inverses and improve the mixture.

        Args:
            image: Display values in [0, 1].
            choice: Of its cells; learned from its own loss, but for the share.
            pad_px: As for `chosen`.
            shares: Of no blur and each radius in the whole image, of which this may be a tile;
                None: this is the whole image.
        """
        # Radii of the image, then of each cell
        likelihoods = cell_likelihoods(choice.logits.detach())
        shares = image_shares(likelihoods) if shares is None else shares
        weights = mixture_weights(likelihoods, shares)
        # The inverses, mixed
        levels = self.mixtures(srgb_to_linear(image), weights, pad_px)
        share_px = _enlarged(choice.share)
        mixture = levels[0] + share_px * (levels[1] - levels[0])
        # What is left
        radii = image.new_tensor([0.0, *self.config.radii_px])[:, None, None]
        radius = (weights * radii).sum(1, keepdim=True) / 4
        guide = interpolate(
            torch.cat([radius, choice.share], 1), scale_factor=CELL_PX // 2, mode="bilinear"
        )
        images = torch.cat([image, *levels], 1) - 0.5
        residual = self.residual(torch.cat([pixel_unshuffle(images, 2), guide], 1))
        return Restored(mixture + residual, mixture)

    @torch.no_grad()
    def features(self, light: Float[Tensor, "b 3 h w"], pad_px: int) -> Float[Tensor, "b f r s"]:
        """Return the gradients of all inverses over those of the image, logarithms, in cells."""
        gray = light.mean(1, keepdim=True)
        own = log_gradients(gray, CELL_PX)
        found = [own]
        for filtered in self.inverses.filtered(gray, pad_px):
            levels = filtered[:, :, 0]
            strength = log_gradients(levels, CELL_PX)
            found.append(strength - own.repeat_interleave(levels.shape[1], 1))
        return torch.cat(found, 1)

    @torch.no_grad()
    def mixtures(
        self, light: Float[Tensor, "b 3 h w"], probabilities: Tensor, pad_px: int
    ) -> list[Float[Tensor, "b 3 h w"]]:
        """Return display values of the mixture at each level of regularization."""
        # Radii that no cell takes cost nothing
        kept = (probabilities - SMALLEST_PROBABILITY).clamp(min=0)
        weights = _enlarged(kept / kept.sum(1, keepdim=True))
        is_taken = weights.flatten(2).amax((0, 2)) > 0
        mixed = (weights[:, :1] * light)[:, None].repeat(1, len(NOISE_TO_SIGNAL), 1, 1, 1)
        taken = is_taken[1:].nonzero()[:, 0].tolist()
        for number, filtered in zip(
            taken, self.inverses.filtered(light, pad_px, taken), strict=True
        ):
            mixed = torch.addcmul(mixed, weights[:, None, number + 1, None], filtered)
        return [linear_to_srgb(level.clamp(0, 1)) for level in mixed.unbind(1)]

    def residual(self, x: Float[Tensor, "b f i j"]) -> Float[Tensor, "b 3 h w"]:
        """Return what the U-Net adds, from inputs at half the image's size."""
        x = self.first(x)
        skipped = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x)
            skipped.append(x)
            x = down(x)
        x = self.middle(x)
        for up, blocks in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = blocks(pixel_shuffle(up(x), 2) + skipped.pop())
        return pixel_shuffle(self.last(x), 2)


def _enlarged(cells: Float[Tensor, "b c r s"]) -> Float[Tensor, "b c h w"]:
    return interpolate(cells, scale_factor=CELL_PX, mode="bilinear", align_corners=False)


class DeblurModel(Frozen):
    """A restoration network for images of any size."""

    def __init__(self, network: RestorationNet) -> None:
        super().__init__(network)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore display values; the result is not clamped."""
        height, width = image.shape[-2:]
        return self.network(self._padded(image))[..., :height, :width].to(image.dtype)

    def _padded(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 i j"]:
        # The border is repeated up to a size that the network halves evenly
        multiple = self.network.multiple_px
        padding = (0, -image.shape[-1] % multiple, 0, -image.shape[-2] % multiple)
        image = image.to(self.dtype)
        return pad(image, padding, mode="replicate") if any(padding) else image

    @torch.no_grad()
    def restore(
        self,
        image: Float[Tensor, "3 h w"],
        tile_px: int = TILE_PX,
        on_tile: OnTile = lambda done, total: None,
    ) -> Float[Tensor, "3 h w"]:
        """Restore a photograph of any size tile by tile: what `forward` gives, in bounded memory.

        Tiles are computed twice, first for the radii of the whole photograph, each time with a
        margin as wide as the network sees, so there are no seams.

        Args:
            image: Display values in [0, 1].
            tile_px: Side of a tile without its margin; rounded up to what the network halves
                evenly.
            on_tile: Called with (tiles done, tiles), both of the two times.

        Returns:
            Display values, clamped to [0, 1].
        """
        network, padded = self.network, self._padded(image[None])
        pad_px = network.config.reach_px
        height, width = padded.shape[-2:]
        tile_px = -(-tile_px // network.multiple_px) * network.multiple_px
        first = cut_tiles(height, width, tile_px, network.choice_reach_px)
        second = cut_tiles(height, width, tile_px, network.reach_px)
        total = len(first) + len(second)

        # The radii of all cells, then of the photograph
        of_cells = (1, 2 + network.config.radii, height // CELL_PX, width // CELL_PX)
        cells = padded.new_empty(of_cells)
        for done, tile in enumerate(first, start=1):
            of_tile = tile.in_cells(CELL_PX)
            choice = network.chosen(padded[(..., *tile.outer)], pad_px)
            cells[(..., *of_tile.inner)] = torch.cat(choice, 1)[(..., *of_tile.within)]
            on_tile(done, total)
        shares = image_shares(cell_likelihoods(cells[:, :-1]))

        # Restored by them
        restored = torch.empty_like(padded)
        for done, tile in enumerate(second, start=len(first) + 1):
            around = cells[(..., *tile.in_cells(CELL_PX).outer)]
            choice = Choice(around[:, :-1], around[:, -1:])
            result = network.restored(padded[(..., *tile.outer)], choice, pad_px, shares)
            restored[(..., *tile.inner)] = result.image[(..., *tile.within)]
            on_tile(done, total)
        height, width = image.shape[-2:]
        return restored[0, :, :height, :width].to(image.dtype).clamp(0, 1)
