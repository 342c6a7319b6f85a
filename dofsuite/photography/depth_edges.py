"""Soft steps in depth maps, which no lens should see (*ours*).

Depth maps change from a near surface to a far one over a few pixels. What lies in between is on
neither; where it crosses the focal plane, it would be rendered as a chain of sharp specks along the
edge. So within a step each pixel gets the depth of the side that it is nearer to.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

# A step, in disparity: what changes less within the window is a slope.
MIN_STEP = 0.08
# Half the window as a share of the long side: 2 px of a depth model's 518.
REACH_SHARE = 0.004


def snap_edges(disparity: Tensor) -> Tensor:
    """Return disparity [b, 1, h, w] whose steps have no values in between.

    With high and low the largest and the smallest value in the square window around a pixel: high
    or low, whichever is nearer to the pixel's own, where high - low >= MIN_STEP; else its own.
    """
    reach_px = max(1, round(REACH_SHARE * max(disparity.shape[-2:])))
    high, low = _largest(disparity, reach_px), -_largest(-disparity, reach_px)
    snapped = torch.where(high - disparity <= disparity - low, high, low)
    return torch.where(high - low >= MIN_STEP, snapped, disparity)


def _largest(values: Tensor, reach_px: int) -> Tensor:
    # By rows, then by columns: the cost grows with the reach, not with its square.
    window = 2 * reach_px + 1
    by_rows = max_pool2d(values, (window, 1), stride=1, padding=(reach_px, 0))
    return max_pool2d(by_rows, (1, window), stride=1, padding=(0, reach_px))
