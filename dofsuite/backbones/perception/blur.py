"""Whether a photograph is blurred, and whether that blur is wanted: a ResNeXt-FPN classifier.

Paper: "A ResNeXt-FPN classifier is used to identify whether each image contains no blur, desirable
blur, or undesirable blur", without its size, data or labels. Here: the same three verdicts as sums
over five kinds, which can be rendered and so labeled without people (*ours*).
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from dofsuite.backbones.perception.frozen import Frozen, resized

Kind = Literal["all_in_focus", "subject_in_focus", "misfocus", "motion_blur", "camera_shake"]
Verdict = Literal["none", "desirable", "undesirable"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

# Verdict of each kind.
VERDICT_OF: dict[Kind, Verdict] = {
    "all_in_focus": "none",
    "subject_in_focus": "desirable",
    "misfocus": "undesirable",
    "motion_blur": "undesirable",
    "camera_shake": "undesirable",
}


class ResNeXtFpnConfig(NamedTuple):
    # Channels of the four stages, each half the size of the one before; the first at half the
    # image's size.
    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    blocks: int = 2
    # Groups of a block's 3 x 3 convolution (ResNeXt's cardinality); divides half of every width.
    cardinality: int = 8
    pyramid_width: int = 48


class ResNeXtBlock(nn.Module):
    """x + conv1(conv3 in groups(conv1(x))) (arXiv 1611.05431), halved in size with stride 2."""

    def __init__(self, channels_in: int, channels: int, cardinality: int, stride: int) -> None:
        super().__init__()
        inner = channels // 2
        self.reduce = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.grouped = nn.Conv2d(inner, inner, 3, stride, 1, groups=cardinality, bias=False)
        self.expand = nn.Conv2d(inner, channels, 1, bias=False)
        # GroupNorm, not BatchNorm: a verdict does not depend on the other images of a batch
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in (inner, inner, channels))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inside = relu(self.norms[0](self.reduce(x)))
        inside = relu(self.norms[1](self.grouped(inside)))
        return relu(self.shortcut(x) + self.norms[2](self.expand(inside)))


class ResNeXtFpn(nn.Module):
    """ResNeXt, a feature pyramid (arXiv 1612.03144) over its stages, and one head over all levels.

    Every level sees the image through the pyramid's top-down path, so that sharpness at fine levels
    is judged knowing what the coarse ones see. Each level gives its mean and its maximum.
    """

    def __init__(self, config: ResNeXtFpnConfig, outputs: int = len(KINDS)) -> None:
        super().__init__()
        self.config = config
        widths, pyramid_width = config.widths, config.pyramid_width
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2)
        stages = []
        for number, width in enumerate(widths):
            stride = 1 if number == 0 else 2
            first = ResNeXtBlock(widths[max(number - 1, 0)], width, config.cardinality, stride)
            others = (
                ResNeXtBlock(width, width, config.cardinality, 1) for _ in range(config.blocks - 1)
            )
            stages.append(nn.Sequential(first, *others))
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(nn.Conv2d(width, pyramid_width, 1) for width in widths)
        self.smooth = nn.ModuleList(
            nn.Conv2d(pyramid_width, pyramid_width, 3, padding=1, groups=config.cardinality)
            for _ in widths
        )
        self.head = nn.Linear(2 * len(widths) * pyramid_width, outputs)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Return the logits of the kinds for display values in [0, 1]."""
        # Bottom up
        x = relu(self.stem((image - 0.5) / 0.25))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        # Top down
        levels = [self.lateral[-1](features[-1])]
        for lateral, feature in zip(self.lateral[-2::-1], features[-2::-1], strict=True):
            coarser = interpolate(levels[-1], feature.shape[-2:], mode="nearest")
            levels.append(lateral(feature) + coarser)
        # What every level holds
        pooled = []
        for smooth, level in zip(self.smooth, reversed(levels), strict=True):
            response = relu(smooth(level))
            pooled += [response.mean((2, 3)), response.amax((2, 3))]
        return self.head(torch.cat(pooled, 1))


class BlurModel(Frozen):
    """A blur classifier that sees images at one size; larger ones are reduced to it."""

    def __init__(self, network: ResNeXtFpn, size_px: int) -> None:
        """Freeze a network.

        Args:
            network: Returns the logits of `KINDS`.
            size_px: Short side at which it judges. A blur that vanishes at this size is none.
        """
        super().__init__(network)
        self.size_px = size_px

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Return the probabilities of `KINDS` for display values in [0, 1] of any size."""
        return self.network(self.reduced(image).to(self.dtype)).float().softmax(1)

    def reduced(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 r s"]:
        """Bring the short side to `size_px`, with antialiasing."""
        height, width = image.shape[-2:]
        scale = self.size_px / min(height, width)
        return resized(image, (round(height * scale), round(width * scale)), "bicubic").clamp(0, 1)


def verdict_probabilities(kinds: Float[Tensor, "b k"]) -> Float[Tensor, "b v"]:
    """Sum the probabilities of `KINDS` to those of `VERDICTS`."""
    sums = kinds.new_zeros(len(kinds), len(VERDICTS))
    for column, kind in enumerate(KINDS):
        sums[:, VERDICTS.index(VERDICT_OF[kind])] += kinds[:, column]
    return sums
