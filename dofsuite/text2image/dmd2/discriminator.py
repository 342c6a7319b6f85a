"""DMD2's discriminator: classifies real and generated from the fake score's mid-block features."""

from jaxtyping import Float
from torch import Tensor, nn

from dofsuite.optics.scattering import without_autocast

KERNEL = 4


def num_groups(channels: int) -> int:
    """Return the largest divisor of the channels up to 32 that leaves 8 or more per group, else 1.

    DMD2: 32 groups of 40 channels. Here: small networks get fewer, because at 1x1 a group of one
    channel is normalized to zero.
    """
    groups = range(1, min(32, channels // 8) + 1)
    return max((n for n in groups if channels % n == 0), default=1)


def conv_block(channels: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, stride, padding),
        nn.GroupNorm(num_groups(channels), channels),
        nn.SiLU(),
    )


class Discriminator(nn.Module):
    """Mid-block features [b, channels, side, side] to logits [b], high for real.

    Stride-2 4x4 convolutions halve the side until it is 4 or less, one convolution without padding
    reduces it to 1x1, a 1x1 convolution gives the logit. At 1280 channels and side 32 these are
    DMD2's layers: 32, 16, 8, 4, 1.
    """

    def __init__(self, channels: int = 1280, side: int = 32, float32: bool = True) -> None:
        """Build the layers for one feature size.

        Args:
            channels: Of the features, kept throughout (as in DMD2).
            side: Height and width of the features. Larger features give several logits, which are
                averaged (*ours*).
            float32: Run in float32 even under autocast (as DMD2); otherwise in the surrounding
                precision.
        """
        super().__init__()
        self.float32 = float32
        # Halve the side down to 4, then one convolution over what is left.
        stages = []
        while side > KERNEL:
            stages.append(conv_block(channels, KERNEL, stride=2, padding=1))
            side //= 2
        self.stages = nn.Sequential(*stages, conv_block(channels, side, stride=side, padding=0))
        self.logit = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, features: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b"]:
        if not self.float32:
            return self._logits(features.to(self.logit.weight.dtype))
        with without_autocast(features):
            return self._logits(features.float())

    def _logits(self, features: Tensor) -> Tensor:
        return self.logit(self.stages(features)).flatten(1).mean(dim=1)
