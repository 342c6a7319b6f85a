"""Sampling of training cameras: focal planes, focus points, bokeh levels (DiffCamera, sec. 3.1, D).

Convention: disparity is [b, 1, h, w] in [0, 1], 0 far and 1 near; a focus point is (x, y) as
fractions of width and height from the top left; random numbers come in as uniforms of [0, 1), so
that every function here is pure and none synchronizes with the device.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dofsuite.diffusion import to_device

# Random numbers of one example: plane, pixel, level and sharpness of three cameras.
NUM_UNIFORMS = 12


class Cameras(NamedTuple):
    """One camera for every sample of a batch."""

    focus_point: Tensor  # [b, 2] (x, y) in [0, 1]
    focus_disparity: Tensor  # [b] focal plane, in [0, 1]
    # [b] pixels of blur radius per unit of disparity at the reference width; 0 is all in focus.
    bokeh_level: Tensor


@dataclass(frozen=True)
class CameraSampling:
    """How the cameras of reference and targets are sampled."""

    grid: Literal["paper", "continuous"] = "paper"
    """`paper`: 21 planes, levels 1 to 20, and the all-in-focus image, 421 variants, all equally
    likely (*stated*); `continuous` (*ours*): the disparity of a random pixel, and a level between 1
    and `level_max`."""
    level_max: int = 20
    """Largest bokeh level (*stated*)."""
    planes: int = 21
    """Focal planes from 0 to 1 (*stated*)."""
    eta: float = 0.025
    """A pixel is in focus within this distance in disparity; the paper's value is not given
    (*ours*: half a step between planes)."""
    all_in_focus_targets: float | None = None
    """Share of all-in-focus targets; null is their share in the 421 variants (*stated*)."""
    all_in_focus_references: float | None = None
    """Share of all-in-focus references; null is their share in the 421 variants (*stated*)."""

    def __post_init__(self) -> None:
        for name in ("all_in_focus_targets", "all_in_focus_references"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name}: a share between 0 and 1 is expected, not {share}")
        if self.planes < 2 or self.level_max < 1 or self.eta <= 0:
            raise ValueError("planes must be 2 or more, level_max 1 or more and eta above 0")

    def share(self, configured: float | None) -> float:
        """Return a share of all-in-focus images, by default that of the paper's grid."""
        return 1 / (self.planes * self.level_max + 1) if configured is None else configured


def choose(allowed: Bool[Tensor, "b n"], uniform: Float[Tensor, "b"]) -> Int[Tensor, "b"]:
    """Choose one of each row's allowed indices, uniformly; the last index where none is allowed."""
    count = allowed.long().cumsum(dim=1)
    rank = (uniform * count[:, -1]).long() + 1
    index = torch.searchsorted(count, rank[:, None])[:, 0]
    return index.clamp(max=allowed.shape[1] - 1)


def prefer(allowed: Bool[Tensor, "b n"], preferred: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Narrow `allowed` to `preferred` in the rows where that leaves something."""
    both = allowed & preferred
    return torch.where(both.any(dim=1, keepdim=True), both, allowed)


def point_of(pixel: Int[Tensor, "b"], height: int, width: int) -> Float[Tensor, "b 2"]:
    """Return a pixel's center as (x, y) fractions."""
    column, row = pixel % width, torch.div(pixel, width, rounding_mode="floor")
    return torch.stack([(column + 0.5) / width, (row + 0.5) / height], dim=1)


def draw_focus(
    disparity: Float[Tensor, "b 1 h w"],
    uniforms: Float[Tensor, "b 2"],
    sampling: CameraSampling,
    other_than: Float[Tensor, "b"] | None = None,
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b"]]:
    """Draw a focal plane d_f and one of its focus points { (x, y) : |D(x, y) - d_f| < eta }.

    Sec. 3.1. A plane with no pixel within eta has no focus point; the paper draws again, here only
    occupied planes are drawn from.

    Returns:
        Focus point [b, 2] and focal plane [b], more than eta from `other_than` where the scene has
        such a plane.
    """
    height, width = disparity.shape[-2:]
    values = disparity.flatten(1)
    excluded = torch.full_like(uniforms[:, 0], -1.0) if other_than is None else other_than
    # Continuous grid: the disparity of a random pixel
    if sampling.grid == "continuous":
        anywhere = torch.ones_like(values, dtype=torch.bool)
        elsewhere = (values - excluded[:, None]).abs() > sampling.eta
        pixel = choose(prefer(anywhere, elsewhere), uniforms[:, 0])
        return point_of(pixel, height, width), values.gather(1, pixel[:, None])[:, 0]
    # Paper's grid: one of the planes that pixels lie on, then one of those pixels
    planes = torch.linspace(0, 1, sampling.planes, device=values.device)
    in_focus = [((values - plane).abs() < sampling.eta).any(dim=1) for plane in planes]
    elsewhere = (planes - excluded[:, None]).abs() > sampling.eta
    occupied = prefer(torch.stack(in_focus, dim=1), elsewhere)
    plane = planes[choose(occupied, uniforms[:, 0])]
    pixel = choose((values - plane[:, None]).abs() < sampling.eta, uniforms[:, 1])
    return point_of(pixel, height, width), plane


def draw_level(
    uniforms: Float[Tensor, "b 2"], sampling: CameraSampling, all_in_focus_share: float
) -> Float[Tensor, "b"]:
    """Draw 0 with the given share, else a level of the grid, or one between 1 and `level_max`."""
    if sampling.grid == "continuous":
        level = 1 + uniforms[:, 0] * (sampling.level_max - 1)
    else:
        level = 1 + (uniforms[:, 0] * sampling.level_max).floor()
    return torch.where(uniforms[:, 1] < all_in_focus_share, torch.zeros_like(level), level)


def draw_cameras(
    disparity: Float[Tensor, "b 1 h w"],
    uniforms: Float[Tensor, "b 12"],
    sampling: CameraSampling,
) -> tuple[Cameras, Cameras, Cameras]:
    """Draw the cameras of the reference and of two targets on different focal planes.

    The second target is stacked with the first, so it is never all in focus: an all-in-focus image
    would make up the whole stack.
    """
    all_in_focus_shares = (
        sampling.share(sampling.all_in_focus_references),
        sampling.share(sampling.all_in_focus_targets),
        0.0,
    )
    groups = to_device(uniforms, disparity.device).split(4, dim=1)  # 3 x [b, 4]
    cameras: list[Cameras] = []
    for u, share in zip(groups, all_in_focus_shares, strict=True):
        # The second target avoids the first one's focal plane.
        other_than = cameras[1].focus_disparity if len(cameras) == 2 else None
        point, plane = draw_focus(disparity, u[:, :2], sampling, other_than)
        cameras.append(Cameras(point, plane, draw_level(u[:, 2:], sampling, share)))
    return cameras[0], cameras[1], cameras[2]
