"""Blur by motion during the exposure: light averaged along a path across the sensor.

A path is `path_px` `[b, n, 2]`: where the light of a point falls at n equally long moments, in
pixels to the right and down from where it falls without motion. A camera that moves blurs the whole
image alike:

    out(x) = 1/n sum_i in(x - path_i)
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad


def straight_path(
    length_px: Float[Tensor, "b"], angle: Float[Tensor, "b"], points: int = 33
) -> Float[Tensor, "b n 2"]:
    """Return a path at constant speed, centered: a camera that is panned.

    Args:
        length_px: From the first to the last point.
        angle: Radians from the right, downwards.
        points: Moments.
    """
    along_px = length_px[:, None] * torch.linspace(-0.5, 0.5, points)
    return along_px[..., None] * torch.stack((angle.cos(), angle.sin()), 1)[:, None]


def shaken_path(
    extent_px: Float[Tensor, "b"], normal: Float[Tensor, "b n 2"], inertia: float = 0.9
) -> Float[Tensor, "b n 2"]:
    """Return the path of a hand that trembles: its velocity is a random walk with friction.

    v_i = inertia v_(i-1) + normal_i; the path is the sum of v, centered, and scaled so that the
    farther of its two sides is `extent_px`. The form of Boracchi and Foi (TIP 2012), without their
    rare jerks (*ours*).

    Args:
        extent_px: Larger side of the path's bounding box.
        normal: Standard normal draws, one a moment and axis.
        inertia: Share of the velocity that is kept from one moment to the next, in [0, 1).
    """
    velocity = [normal[:, 0]]
    for i in range(1, normal.shape[1]):
        velocity.append(inertia * velocity[-1] + normal[:, i])
    path = torch.stack(velocity, 1).cumsum(1)
    low, high = path.amin(1, keepdim=True), path.amax(1, keepdim=True)
    largest_side = (high - low).amax(2, keepdim=True).clamp(min=1e-6)
    return (path - (low + high) / 2) / largest_side * extent_px[:, None, None]


def motion_kernel(path_px: Float[Tensor, "b n 2"], reach_px: int) -> Float[Tensor, "b k k"]:
    """Return where a point's light falls, `k = 2 reach_px + 1`: bilinear, its sum is 1.

    Raises:
        ValueError: A path leaves the kernel.
    """
    if float(path_px.abs().max()) > reach_px:
        raise ValueError(f"path_px must lie within reach_px, {reach_px}")
    kernel = path_px.new_zeros(len(path_px), 2 * reach_px + 1, 2 * reach_px + 1)
    # Each moment's light falls on the four pixels around it
    position = path_px + reach_px
    corner = position.floor().clamp(max=2 * reach_px - 1)
    right, down = (position - corner).unbind(2)
    item = torch.arange(len(path_px))[:, None].expand(path_px.shape[:2])
    for step_down, share_down in ((0, 1 - down), (1, down)):
        for step_right, share_right in ((0, 1 - right), (1, right)):
            row, column = corner[..., 1].long() + step_down, corner[..., 0].long() + step_right
            kernel.index_put_((item, row, column), share_down * share_right, accumulate=True)
    return kernel / path_px.shape[1]


def blur_along_path(
    image_linear: Float[Tensor, "b 3 h w"], path_px: Float[Tensor, "b n 2"]
) -> Float[Tensor, "b 3 h w"]:
    """Average each item's light along its path; beyond the frame the border is repeated.

    Raises:
        ValueError: There is not one path for every image.
    """
    if len(image_linear) != len(path_px):
        raise ValueError(f"{len(image_linear)} images and {len(path_px)} paths do not match")
    batch, channels, height, width = image_linear.shape
    reach_px = max(1, math.ceil(float(path_px.abs().max())))
    # `conv2d` correlates: the kernel is turned by half a turn
    kernel = motion_kernel(path_px, reach_px).flip(1, 2).repeat_interleave(channels, 0)
    padded = pad(image_linear, [reach_px] * 4, mode="replicate")
    blurred = conv2d(padded.flatten(0, 1)[None], kernel[:, None], groups=batch * channels)
    return blurred.reshape(batch, channels, height, width)
