"""The renderers' formulas at single pixels, tap by tap in float64: affordable at any size.

Each is a loop over pixels, differentiable by plain autograd, and shares no code with the renderers.
"""

import torch
from torch import Tensor


def random_pixels(size: tuple[int, int], number: int) -> Tensor:
    """[n, 2] places (y, x)."""
    generator = torch.Generator().manual_seed(2)
    return torch.stack([torch.randint(0, end, (number,), generator=generator) for end in size], 1)


def at_pixels(image: Tensor, pixels: Tensor) -> Tensor:
    """The values [n, c] of an image [1, c, h, w]."""
    return image[0, :, pixels[:, 0], pixels[:, 1]].T


def scattered_at(image: Tensor, radius_px: Tensor, pixels: Tensor) -> Tensor:
    """BokehMe's scatter: weight (0.5 + 0.5 tanh(4 (r - d))) / (r^2 + 0.2) up to int(r) + 1 px."""
    image, radius_px = image[0].double(), radius_px[0, 0].double().abs()
    reach = int(radius_px.max()) + 1
    means = []
    for y, x in pixels.tolist():
        rows, columns = _window(y, reach, image.shape[1]), _window(x, reach, image.shape[2])
        radius, light = radius_px[rows, columns], image[:, rows, columns]
        dy = torch.arange(rows.start, rows.stop).double()[:, None] - y
        dx = torch.arange(columns.start, columns.stop).double() - x
        weight = (0.5 + 0.5 * torch.tanh(4 * (radius - torch.hypot(dy, dx)))) / (radius**2 + 0.2)
        weight = weight * (torch.maximum(dy.abs(), dx.abs()) <= radius.floor() + 1)
        means.append((light * weight).sum((1, 2)) / weight.sum())
    return torch.stack(means)


def gathered_at(image: Tensor, radius_px: Tensor, pixels: Tensor) -> Tensor:
    """TAF's disc mean: weight clamp(r + 0.5 - d, 0, 1), the border repeated outwards."""
    image, radius_px = image[0].double(), radius_px[0, 0].double().abs().clamp(min=0.5)
    means = []
    for y, x in pixels.tolist():
        radius = radius_px[y, x]
        offset = torch.arange(-int(radius) - 1, int(radius) + 2)
        rows = (y + offset).clamp(0, image.shape[1] - 1)
        columns = (x + offset).clamp(0, image.shape[2] - 1)
        distance = torch.hypot(offset.double()[:, None], offset.double())
        weight = (radius + 0.5 - distance).clamp(0, 1)
        means.append((image[:, rows][:, :, columns] * weight).sum((1, 2)) / weight.sum())
    return torch.stack(means)


def blurred_at(image: Tensor, radius_px: float, pixels: Tensor) -> Tensor:
    """The mean within the frame over one classical disc; the identity at 0, in between below 0.5.

    image [1, c, h, w] to [n, c].
    """
    constant = torch.full_like(image[:, :1], radius_px)
    mixed, sharp = min(abs(radius_px) / 0.5, 1.0), at_pixels(image.double(), pixels)
    return (1 - mixed) * sharp + mixed * scattered_at(image, constant, pixels)


def _window(center: int, reach: int, end: int) -> slice:
    return slice(max(0, center - reach), min(end, center + reach + 1))
