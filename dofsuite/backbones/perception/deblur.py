"""Restoration of defocused photographs: a bank of inverse filters, and a network that chooses.

1. The light is filtered by the Wiener inverses of discs of many radii (`inverse_discs`).
2. A small network reads how strong the gradients of each are in cells of 8 x 8 px, and returns for
   each cell the probabilities of the radii: a wrong inverse rings, the right one does not.
3. The inverses are mixed by these probabilities, in linear light.
4. A U-Net on the input and the mixture removes noise and rings. NAFNet's plan (arXiv 2204.04676):
   skip additions, and the output is added to the mixture; here plain residual blocks without
   normalization, and the finest scale is half the image's (pixel unshuffle).

Nothing is pooled over the whole image (*ours*): a pixel depends on its surroundings within
`reach_px` alone, so tiles with that margin give what the whole image gives.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    conv2d,
    interpolate,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    relu,
)

from dofsuite.backbones.perception.frozen import Frozen
from dofsuite.backbones.perception.inverse_discs import (
    NOISE_TO_SIGNAL,
    InverseDiscs,
    log_gradients,
)
from dofsuite.optics import linear_to_srgb, srgb_to_linear

OnTile = Callable[[int, int], object]
TILE_PX = 768
# Side of the cells in which the radius is estimated.
CELL_PX = 8
# A new network takes everything for sharp: its logits are multiplied so that this can change soon.
SHARP_BIAS, LOGIT_SCALE = 3.0, 3.0
# Variance below which a combination of features is noise.
SMALLEST_VARIANCE = 1e-3


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
    """A restoration and how it came about.

    Attributes:
        image: [b, 3, h, w], the restored display values.
        mixture: [b, 3, h, w], the mixture of inverses, display values in [0, 1].
        logits: [b, 1 + radii, h / 8, w / 8], of no blur and of each radius.
    """

    image: Tensor
    mixture: Tensor
    logits: Tensor


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


class RadiusChoice(nn.Module):
    """Probabilities of the radii in each cell, from the gradients of all inverses.

    Those of neighboring radii differ by little, so features are whitened first; this takes most of
    the time to learn away. Then cells, pairs of cells for a wider view, and cells again.
    """

    mean: Tensor
    whitening: Tensor

    CELL_BLOCKS, PAIR_BLOCKS = 2, 3

    def __init__(self, features: int, width: int, radii: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whitening", torch.eye(features))
        self.first = nn.Conv2d(features, width, 1)
        self.before = _residual_blocks(self.CELL_BLOCKS, width)
        self.wide = _residual_blocks(self.PAIR_BLOCKS, width)
        self.after = _residual_blocks(self.CELL_BLOCKS, width)
        # No blur, the radii, the share of the stronger regularization
        self.last = nn.Conv2d(width, 1 + radii + 1, 1)
        _start_at_zero(self.last)
        with torch.no_grad():
            self.last.bias[0] = SHARP_BIAS  # type: ignore[index]

    @classmethod
    def reach_px(cls) -> int:
        """How far away a pixel still matters."""
        blocks = 2 * cls.CELL_BLOCKS + 2 * cls.PAIR_BLOCKS
        # Two convolutions a block; enlarging reaches one cell and one pair, a gradient one pixel
        return CELL_PX * (2 * blocks + 1 + 2 + 1)

    @torch.no_grad()
    def calibrate(self, features: Float[Tensor, "b f r s"]) -> None:
        """Whiten what has the mean and the covariance of these features."""
        samples = features.transpose(0, 1).flatten(1).double()
        variances, directions = torch.linalg.eigh(samples.cov())
        whitening = (directions * (variances.clamp(min=0) + SMALLEST_VARIANCE).rsqrt()).T
        # Rounded as they are saved, since later sums depend on every bit
        self.mean.copy_(samples.mean(1).half())
        self.whitening.copy_(whitening.half())

    def forward(self, features: Float[Tensor, "b f r s"]) -> tuple[Tensor, Tensor]:
        """Return logits [b, 1 + radii, r, s] and shares [b, 1, r, s]; r and s are even."""
        white = conv2d(features - self.mean[:, None, None], self.whitening[..., None, None])
        x = self.before(self.first(white))
        wide = self.wide(avg_pool2d(x, 2))
        x = x + interpolate(wide, scale_factor=2, mode="bilinear", align_corners=False)
        answer = LOGIT_SCALE * self.last(self.after(x))
        return answer[:, :-1], answer[:, -1:].sigmoid()


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
        """Sides of an input are multiples of this: the U-Net's coarsest pixel, two cells."""
        return max(2 ** (1 + len(self.config.blocks)), 2 * CELL_PX)

    @property
    def reach_px(self) -> int:
        """How far away a pixel still matters, at most; a multiple of `multiple_px`.

        A 3 x 3 convolution reaches one pixel of its scale; what changes the scale reaches none
        beyond the coarser pixel.
        """
        blocks = self.config.blocks
        reach = 2 * 2 + 2 * self.config.middle_blocks * 2 ** (1 + len(blocks))
        reach += sum(2 * 2 * count * 2 ** (1 + level) for level, count in enumerate(blocks))
        reach += self.choice.reach_px() + self.config.reach_px
        return -(-reach // self.multiple_px) * self.multiple_px

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore display values in [0, 1]; sides are multiples of `multiple_px`."""
        return self.restored(image, self.config.reach_px).image

    def restored(self, image: Float[Tensor, "b 3 h w"], pad_px: int) -> Restored:
        """Restore, and return what was mixed and chosen.

        Args:
            image: Display values in [0, 1].
            pad_px: Border of the inverses: below their reach it costs less and wraps around.
        """
        # Which radius
        light = srgb_to_linear(image)
        logits, share = self.choice(self.features(light, pad_px))
        probabilities = logits.softmax(1)
        # The inverses, mixed
        levels = self.mixtures(light, probabilities, pad_px)
        share_px = _enlarged(share)
        mixture = levels[0] + share_px * (levels[1] - levels[0])
        # What is left
        radii = image.new_tensor([0.0, *self.config.radii_px])[:, None, None]
        radius = (probabilities * radii).sum(1, keepdim=True) / 4
        guide = interpolate(
            torch.cat([radius, share], 1), scale_factor=CELL_PX // 2, mode="bilinear"
        )
        images = torch.cat([image, *levels], 1) - 0.5
        residual = self.residual(torch.cat([pixel_unshuffle(images, 2), guide], 1))
        return Restored(mixture + residual, mixture, logits)

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

    def mixtures(
        self, light: Float[Tensor, "b 3 h w"], probabilities: Tensor, pad_px: int
    ) -> list[Float[Tensor, "b 3 h w"]]:
        """Return display values of the mixture at each level of regularization."""
        weights = _enlarged(probabilities)
        mixed = (weights[:, :1] * light)[:, None].repeat(1, len(NOISE_TO_SIGNAL), 1, 1, 1)
        for number, filtered in enumerate(self.inverses.filtered(light, pad_px), start=1):
            mixed = torch.addcmul(mixed, weights[:, None, number : number + 1], filtered)
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
