"""DMD2's discriminator head: real or generated, judged from the fake score's mid-block (facts/text2image.md B.2)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

KERNEL = 4


def num_groups(channels: int) -> int:
    """Return the largest number of groups up to DMD2's 32 that divides the channels and leaves 8 in each, else 1.

    DMD2: 32 groups of 40. Here: small networks get fewer, because at 1x1 a group of one channel is
        normalised to zero.
    """
    fitting = [
        groups for groups in range(1, 33) if channels % groups == 0 and channels // groups >= 8
    ]
    return max(fitting, default=1)


def stage(channels: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    """A convolution, GroupNorm and SiLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, stride, padding),
        nn.GroupNorm(num_groups(channels), channels),
        nn.SiLU(),
    )


class Discriminator(nn.Module):
    """Mid-block features [b, channels, side, side] to logits [b], high for real.

    Stride-2 4x4 convolutions halve the side until it is 4 or less, one convolution without padding
    takes that to 1x1, a 1x1 convolution to the logit. At 1280 channels and side 32 these are DMD2's
    layers: 32, 16, 8, 4, 1.
    """

    def __init__(self, channels: int = 1280, side: int = 32, float32: bool = True) -> None:
        """Lay out the head for one size of features.

        Args:
            channels: Of the features, kept throughout (as in DMD2).
            side: Height and width of the features. Others will do: where more than one logit comes
                out at the end, their mean is taken (*ours*).
            float32: Run in float32, also under autocast (DMD2's way); otherwise in the precision
                that surrounds it.
        """
        super().__init__()
        self.float32 = float32
        stages = []
        while side > KERNEL:
            stages.append(stage(channels, KERNEL, stride=2, padding=1))
            side //= 2
        self.stages = nn.Sequential(*stages, stage(channels, kernel=side, stride=side, padding=0))
        self.logit = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, features: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b"]:
        """Judge features."""
        device_type = features.device.type
        # The meta device, on which FLOPs are counted, has no autocast to switch off.
        if self.float32 and torch.amp.is_autocast_available(device_type):
            with torch.autocast(device_type, enabled=False):
                return self.judge(features.float())
        return self.judge(features.to(self.logit.weight.dtype))

    def judge(self, features: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b"]:
        """Run the layers in the precision that surrounds the call."""
        return self.logit(self.stages(features)).flatten(1).mean(dim=1)
