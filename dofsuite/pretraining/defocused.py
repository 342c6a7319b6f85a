"""Defocused photographs to restore: discs in linear light, over the frame or by depth, and noise.

Everything is a function of (seed, scene number). Inputs are 8-bit display values, as of a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from dofsuite import diffusion
from dofsuite.optics import linear_to_srgb, render_bokeh, srgb_to_linear


@dataclass(frozen=True)
class Defocus:
    """What is drawn for the inputs (all *ours*)."""

    sharp_share: float = 0.16
    """Share of inputs without blur."""
    uniform_share: float = 0.6
    """Share of inputs with one disc for the whole frame; the others have discs by depth."""
    radius_px: tuple[float, float] = (0.6, 9.0)
    """Smallest and largest radius, drawn log-uniformly; by depth, the largest one in the scene."""
    clean_share: float = 0.3
    """Share of inputs without noise."""
    noise_std: float = 3 / 255
    """Largest standard deviation of the noise of the others, in display values; uniform from 0."""
    soft_share: float = 0.2
    """Share of scenes that are soft before they are defocused, as fur and skin are; they stay so in
    the target."""
    soft_std_px: tuple[float, float] = (0.3, 0.9)
    """Of the normal distribution that softens them; uniform."""
    beyond_share: float = 0.2
    """Share of inputs with a blur that no inverse undoes, larger or of another shape than its
    discs; the target keeps it."""
    beyond_radius_px: tuple[float, float] = (11.0, 24.0)
    """Of the larger discs, half of that share: the largest radius in the scene."""
    beyond_std_px: tuple[float, float] = (1.5, 7.0)
    """Of the normal distributions, the other half: of the frame, or of what is near."""
    num_layers: int = 6
    """Layers of the renderer with occlusion."""

    def __post_init__(self) -> None:
        shares = {"sharp_share": self.sharp_share, "uniform_share": self.uniform_share}
        others = {"clean_share": self.clean_share, "soft_share": self.soft_share}
        others["beyond_share"] = self.beyond_share
        for name, share in (shares | others).items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: a share between 0 and 1 is expected, not {share}")
        if self.sharp_share + self.uniform_share > 1:
            raise ValueError("uniform_share: with sharp_share it is above 1")
        for name in ("radius_px", "soft_std_px", "beyond_radius_px", "beyond_std_px"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: a range above 0 is expected, not {(low, high)}")
        if self.noise_std < 0:
            raise ValueError(f"noise_std: must be 0 or above, got {self.noise_std}")


def draw_radius_px(
    disparity: Float[Tensor, "b 1 h w"], defocus: Defocus, seed: int, indices: Sequence[int]
) -> Float[Tensor, "b 1 h w"]:
    """Draw the signed blur radius of every pixel, a function of (seed, index) alone.

    - Without blur: 0.
    - Over the frame: one radius.
    - By depth: level x (disparity - focus), the focus between .2 behind and .2 in front of the
      scene, the level such that the largest radius is what was drawn.
    """
    u = diffusion.draw_uniform(seed, indices, "defocus", 3)[:, :, None, None, None].unbind(1)
    low, high = defocus.radius_px
    radius_px = low * (high / low) ** u[1]
    # By depth
    distance = disparity - (1.4 * u[2] - 0.2)
    by_depth = radius_px * distance / distance.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    # Over the frame, or none
    is_uniform = u[0] < defocus.sharp_share + defocus.uniform_share
    blurred = torch.where(is_uniform, radius_px.expand_as(disparity), by_depth)
    return torch.where(u[0] < defocus.sharp_share, torch.zeros_like(disparity), blurred)


def softened(
    image: Float[Tensor, "b 3 h w"], defocus: Defocus, seed: int, indices: Sequence[int]
) -> Float[Tensor, "b 3 h w"]:
    """Soften the share of scenes that is drawn, in display values."""
    u = diffusion.draw_uniform(seed, indices, "softness", 2).tolist()
    low, high = defocus.soft_std_px
    images = []
    for one, (is_soft, amount) in zip(image[:, None], u, strict=True):
        if is_soft >= defocus.soft_share:
            images.append(one)
            continue
        images.append(normal_blur(one, low + (high - low) * amount, 3))
    return torch.cat(images)


def normal_blur(
    image: Float[Tensor, "b c h w"], std_px: float, reach_px: int
) -> Float[Tensor, "b c h w"]:
    """Convolve with a normal distribution up to a reach; the border is repeated."""
    steps = torch.arange(-reach_px, reach_px + 1, device=image.device)
    line = torch.softmax(-0.5 * (steps / std_px).square(), 0)
    channels = image.shape[1]
    image = pad(image, (reach_px,) * 4, mode="replicate")
    for kernel in (line[:, None], line[None, :]):
        image = conv2d(image, kernel.expand(channels, 1, -1, -1), groups=channels)
    return image


class Defocused(NamedTuple):
    """Photographs, what they should become, and the radius of what is to be undone.

    Attributes:
        given: [b, 3, h, w] display values without noise.
        target: [b, 3, h, w].
        radius_px: [b, 1, h, w], 0 or above.
    """

    given: Tensor
    target: Tensor
    radius_px: Tensor


def defocused(
    all_in_focus: Float[Tensor, "b 3 h w"],
    disparity: Float[Tensor, "b 1 h w"],
    defocus: Defocus,
    seed: int,
    indices: Sequence[int],
) -> Defocused:
    """Defocus scenes by discs, and the share that is drawn by what no inverse undoes."""
    # Scenes, radii, and who gets which blur
    scenes = softened(all_in_focus, defocus, seed, indices)
    radii_px = draw_radius_px(disparity.cpu(), defocus, seed, indices).to(scenes)
    u = diffusion.draw_uniform(seed, indices, "beyond the inverses", 4).tolist()
    found = []
    for number, (is_beyond, is_normal, amount, is_near) in enumerate(u):
        one = slice(number, number + 1)
        scene, radius_px = scenes[one], radii_px[one]
        # Discs that have an inverse
        if is_beyond >= defocus.beyond_share:
            given = photographed(scene, radius_px, defocus.num_layers)
            found.append(Defocused(given, scene, radius_px.abs()))
        # Another shape, of the frame or of what is near
        elif is_normal < 0.5:
            low, high = defocus.beyond_std_px
            std_px = low * (high / low) ** amount
            light = normal_blur(srgb_to_linear(scene), std_px, int(3 * std_px))
            is_blurred = (disparity[one] > 0.5) | (is_near < 0.5)
            given = torch.where(is_blurred, linear_to_srgb(light.clamp(0, 1)), scene)
            found.append(Defocused(given, given, torch.zeros_like(radius_px)))
        # Larger discs, of which those that are small enough are undone
        else:
            low, high = defocus.beyond_radius_px
            largest = radius_px.abs().amax()
            radius_px = radius_px / largest if largest > 0 else torch.ones_like(radius_px)
            radius_px = radius_px * low * (high / low) ** amount
            given = photographed(scene, radius_px, defocus.num_layers)
            is_kept = radius_px.abs() > defocus.radius_px[1]
            target = torch.where(is_kept, given, scene)
            found.append(Defocused(given, target, radius_px.abs().masked_fill(is_kept, 0)))
    return Defocused(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def photographed(
    all_in_focus: Float[Tensor, "b 3 h w"],
    radius_px: Float[Tensor, "b 1 h w"],
    num_layers: int = 6,
) -> Float[Tensor, "b 3 h w"]:
    """Blur display values in linear light: one disc by its kernel, others with occlusion."""
    images = []
    for image, radius in zip(all_in_focus[:, None], radius_px[:, None], strict=True):
        low, high = radius.aminmax()
        if low == high == 0:
            images.append(image)
            continue
        method, layers = ("layered", None) if low == high else ("occlusion", num_layers)
        light = srgb_to_linear(image)
        light = render_bokeh(light, radius, method, layers, fft_dtype=torch.float32)
        images.append(linear_to_srgb(light.clamp(0, 1)))
    return torch.cat(images)


def with_noise(
    image: Float[Tensor, "b 3 h w"], std: Float[Tensor, "b"], seed: int, indices: Sequence[int]
) -> Float[Tensor, "b 3 h w"]:
    """Add normal noise to display values and round them to 8 bits, as a file holds them."""
    normal = diffusion.draw_noise(image.shape[1:], seed, indices, "display noise").to(image)
    noisy = image + std[:, None, None, None].to(image) * normal
    return (noisy.clamp(0, 1) * 255).round() / 255


def draw_noise_std(defocus: Defocus, seed: int, indices: Sequence[int]) -> Float[Tensor, "b"]:
    """Draw the standard deviation of each input's noise."""
    u = diffusion.draw_uniform(seed, indices, "noise level", 2).unbind(1)
    return torch.where(u[0] < defocus.clean_share, 0.0, defocus.noise_std * u[1])
