"""Which pictures of a scene make an example: focal planes, focus points, bokeh levels (DiffCamera, sec. 3.1 and D).

Convention: disparity is [b, 1, h, w] in [0, 1], 0 far and 1 near; a focus point is (x, y) as
fractions of width and height from the top left; random numbers come in as uniforms of [0, 1), so
that every function here is pure and none asks the device for a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NUM_UNIFORMS = 12
"""Random numbers that one example needs: plane, pixel, level and sharpness of three cameras."""


class Cameras(NamedTuple):
    """One camera for every sample of a batch."""

    focus_point: Tensor
    """[b, 2] (x, y) in [0, 1]."""
    focus_disparity: Tensor
    """[b] focal plane, in [0, 1]."""
    bokeh_level: Tensor
    """[b] pixels of radius per unit of disparity where the picture seen has the reference width; 0 all in focus."""


@dataclass(frozen=True)
class CameraDraws:
    """How reference and targets are drawn."""

    grid: Literal["paper", "continuous"] = "paper"
    """`paper`: 21 planes, levels 1 to 20, and the all-in-focus image, 421 variants, all equally likely (*stated*);
    `continuous` (*ours*): the plane of a random pixel, and a level between 1 and `level_max`."""
    level_max: int = 20
    """Largest bokeh level (*stated*)."""
    planes: int = 21
    """Focal planes from 0 to 1 (*stated*)."""
    eta: float = 0.025
    """A pixel is in focus within this distance in disparity; the paper's value is not given (*ours*: half a step)."""
    all_in_focus_targets: float | None = None
    """Share of all-in-focus targets; none is their share in the 421 variants (*stated*)."""
    all_in_focus_references: float | None = None
    """Share of all-in-focus references; none is their share in the 421 variants (*stated*)."""

    def __post_init__(self) -> None:
        for name in ("all_in_focus_targets", "all_in_focus_references"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name}: a share between 0 and 1 is expected, not {share}")
        if self.planes < 2 or self.level_max < 1 or self.eta <= 0:
            raise ValueError("planes must be 2 or more, level_max 1 or more and eta above 0")

    def share(self, given: float | None) -> float:
        """Return the share of all-in-focus pictures."""
        return 1 / (self.planes * self.level_max + 1) if given is None else given


def choose(allowed: Bool[Tensor, "b n"], uniform: Float[Tensor, "b"]) -> Int[Tensor, "b"]:
    """Choose one of the allowed places of each row, all equally likely; the last place where none is allowed."""
    count = allowed.long().cumsum(dim=1)
    wanted = (uniform * count[:, -1]).long() + 1
    place = torch.searchsorted(count, wanted[:, None])[:, 0]
    return place.clamp(max=allowed.shape[1] - 1)


def prefer(allowed: Bool[Tensor, "b n"], preferred: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Narrow `allowed` to `preferred` in the rows where that leaves something."""
    both = allowed & preferred
    return torch.where(both.any(dim=1, keepdim=True), both, allowed)


def point_of(pixel: Int[Tensor, "b"], height: int, width: int) -> Float[Tensor, "b 2"]:
    """Return a pixel's centre as (x, y) fractions."""
    column, row = pixel % width, torch.div(pixel, width, rounding_mode="floor")
    return torch.stack([(column + 0.5) / width, (row + 0.5) / height], dim=1)


def draw_focus(
    disparity: Float[Tensor, "b 1 h w"],
    uniforms: Float[Tensor, "b 2"],
    draws: CameraDraws,
    other_than: Float[Tensor, "b"] | None = None,
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b"]]:
    """Draw a focal plane with pixels on it, and one of its focus points { (x, y) : |D(x, y) - d_f| < eta }, sec. 3.1.

    A plane with no pixel within eta would have no focus point: it is drawn again, here by drawing
    among the others.

    Returns:
        Focus point [b, 2] and focal plane [b], more than eta from `other_than` where the scene has
        such a plane.
    """
    height, width = disparity.shape[-2:]
    values = disparity.flatten(1)
    far = torch.full_like(uniforms[:, 0], -1.0) if other_than is None else other_than
    if draws.grid == "continuous":
        everywhere = torch.ones_like(values, dtype=torch.bool)
        pixel = choose(
            prefer(everywhere, (values - far[:, None]).abs() > draws.eta), uniforms[:, 0]
        )
        return point_of(pixel, height, width), values.gather(1, pixel[:, None])[:, 0]
    planes = torch.linspace(0, 1, draws.planes, device=values.device)
    occupied = torch.stack(
        [((values - plane).abs() < draws.eta).any(dim=1) for plane in planes], dim=1
    )
    occupied = prefer(occupied, (planes - far[:, None]).abs() > draws.eta)
    plane = planes[choose(occupied, uniforms[:, 0])]
    pixel = choose((values - plane[:, None]).abs() < draws.eta, uniforms[:, 1])
    return point_of(pixel, height, width), plane


def draw_level(
    uniforms: Float[Tensor, "b 2"], draws: CameraDraws, all_in_focus_share: float
) -> Float[Tensor, "b"]:
    """Draw 0 with the given share, else a level of the grid, or one between 1 and `level_max`."""
    if draws.grid == "continuous":
        level = 1 + uniforms[:, 0] * (draws.level_max - 1)
    else:
        level = 1 + (uniforms[:, 0] * draws.level_max).floor()
    return torch.where(uniforms[:, 1] < all_in_focus_share, torch.zeros_like(level), level)


def draw_cameras(
    disparity: Float[Tensor, "b 1 h w"], uniforms: Float[Tensor, "b 12"], draws: CameraDraws
) -> tuple[Cameras, Cameras, Cameras]:
    """Draw the cameras of reference, target and second target; the two targets have different focal planes.

    The second target stacks with the first, so it is never all in focus: an all-in-focus image
    stacks with nothing.
    """
    of_reference, of_target, of_second = uniforms.to(disparity.device).split(4, dim=1)
    reference = Cameras(
        *draw_focus(disparity, of_reference[:, :2], draws),
        draw_level(of_reference[:, 2:], draws, draws.share(draws.all_in_focus_references)),
    )
    target = Cameras(
        *draw_focus(disparity, of_target[:, :2], draws),
        draw_level(of_target[:, 2:], draws, draws.share(draws.all_in_focus_targets)),
    )
    second = Cameras(
        *draw_focus(disparity, of_second[:, :2], draws, other_than=target.focus_disparity),
        draw_level(of_second[:, 2:], draws, all_in_focus_share=0.0),
    )
    return reference, target, second
