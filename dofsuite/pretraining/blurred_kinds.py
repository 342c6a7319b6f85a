"""Photographs of each kind of blur, rendered from all-in-focus images and their disparity.

The subject is what is nearest: a surface of at least a twentieth of the image (*ours*). Sizes are
shares of the image's short side, so that they mean the same at every resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dofsuite import diffusion
from dofsuite.backbones.perception.blur import KINDS
from dofsuite.optics import display_to_linear, linear_to_display, render_bokeh
from dofsuite.optics.motion import blur_along_path, shaken_path, straight_path

SUBJECT_SHARE = 0.05
PATH_POINTS = 33


@dataclass(frozen=True)
class BlurSizes:
    """Ranges of blur, drawn log-uniformly."""

    sharp_radius: float = 0.002
    """Largest blur radius of an image that counts as all in focus (*ours*)."""
    radius: tuple[float, float] = (0.02, 0.08)
    """Blur radius of a background behind a subject in focus, and of a subject out of focus
    (*ours*)."""
    motion: tuple[float, float] = (0.03, 0.12)
    """Length of a motion and of a shake (*ours*)."""
    shallow_share: float = 0.5
    """Share of the images in motion that have a blurred background besides (*ours*)."""
    gamma: float = 2.2
    """Display value to linear light, image ** gamma."""

    def __post_init__(self) -> None:
        for name, (low, high) in {"radius": self.radius, "motion": self.motion}.items():
            if not 0 < low <= high:
                raise ValueError(f"{name}: a range above 0 is expected, not {low}, {high}")


class Camera(NamedTuple):
    """What blurs an image: `radius_px = level_px (disparity - focus_disparity)`, then a path."""

    level_px: Float[Tensor, "b"]
    focus_disparity: Float[Tensor, "b"]
    path_px: Float[Tensor, "b n 2"]


def log_uniform(u: Float[Tensor, "b"], bounds: tuple[float, float]) -> Float[Tensor, "b"]:
    low, high = bounds
    return low * (high / low) ** u


def subject_disparity(disparity: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b"]:
    """Return the disparity at which `SUBJECT_SHARE` of the image is as near or nearer."""
    return disparity.flatten(1).quantile(1 - SUBJECT_SHARE, dim=1)


def draw_cameras(
    kind: Int[Tensor, "b"],
    disparity: Float[Tensor, "b 1 h w"],
    sizes: BlurSizes,
    seed: int,
    indices: Sequence[int],
) -> Camera:
    """Draw a camera that gives each image its kind of blur, a function of (seed, index) alone.

    - all in focus: at most `sharp_radius` anywhere;
    - subject in focus: focus on the subject, the radius at disparity 0 is drawn;
    - misfocus: half of them focus behind the subject, whose radius is drawn; half focus outside the
      scene, so that nothing is sharp;
    - motion blur, camera shake: a path, over an image all in focus or with its subject in focus.

    Args:
        kind: Index into `KINDS`.
        disparity: 0 far to 1 near.
        sizes: Ranges.
        seed: Of the draws.
        indices: Global sample indices.
    """
    size_px = float(min(disparity.shape[-2:]))
    u = diffusion.draw_uniform(seed, indices, "kind of blur", 8).to(disparity.device).unbind(1)
    subject = subject_disparity(disparity).clamp(min=0.1)
    radius_px = size_px * log_uniform(u[0], sizes.radius)
    is_kind = {name: kind == number for number, name in enumerate(KINDS)}

    # The subject in focus, and the radius at disparity 0
    level_px, focus = radius_px / subject, subject
    # All in focus, or nearly
    is_sharp = is_kind["all_in_focus"]
    moves = is_kind["motion_blur"] | is_kind["camera_shake"]
    level_px = torch.where(is_sharp, size_px * sizes.sharp_radius * u[1], level_px)
    level_px = torch.where(moves & (u[1] >= sizes.shallow_share), 0.0, level_px)
    # Misfocus: behind the subject, or outside the scene, where the nearest radius is drawn
    behind = subject * 0.3 * u[2]
    outside = torch.where(u[3] < 0.5, -0.2 - u[2], 1.2 + u[2])
    distance = torch.where(u[3] < 0.5, -outside, outside - 1)
    is_behind = is_kind["misfocus"] & (u[4] < 0.5)
    is_outside = is_kind["misfocus"] & (u[4] >= 0.5)
    focus = torch.where(is_behind, behind, torch.where(is_outside, outside, focus))
    level_px = torch.where(is_behind, radius_px / (subject - behind), level_px)
    level_px = torch.where(is_outside, radius_px / (1 + distance), level_px)

    # Motion
    length_px = size_px * log_uniform(u[5], sizes.motion)
    straight = straight_path(length_px, 2 * torch.pi * u[6], PATH_POINTS)
    normal = diffusion.draw_noise((PATH_POINTS, 2), seed, indices, "camera shake")
    shaken = shaken_path(length_px, normal.to(disparity.device))
    path_px = torch.where(is_kind["camera_shake"][:, None, None], shaken, straight)
    return Camera(level_px, focus, path_px * moves[:, None, None])


def photograph(
    image_srgb: Float[Tensor, "b 3 h w"],
    disparity: Float[Tensor, "b 1 h w"],
    camera: Camera,
    gamma: float,
    num_layers: int = 8,
) -> Float[Tensor, "b 3 h w"]:
    """Render with occlusion, then along the path; display values in [0, 1]."""
    image_linear = display_to_linear(image_srgb, gamma)
    radius_px = camera.level_px[:, None, None, None] * (
        disparity - camera.focus_disparity[:, None, None, None]
    )
    # An image without blur does not pay for it
    is_blurred, moves = camera.level_px > 0, camera.path_px.abs().amax((1, 2)) > 0
    if is_blurred.any():
        image_linear[is_blurred] = render_bokeh(
            image_linear[is_blurred],
            radius_px[is_blurred],
            "occlusion",
            num_layers,
            fft_dtype=torch.float32,
        )
    if moves.any():
        image_linear[moves] = blur_along_path(image_linear[moves], camera.path_px[moves])
    return linear_to_display(image_linear, gamma).clamp(0, 1)
