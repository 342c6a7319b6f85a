"""Running sums of padded images, values looked up at places of their own, and the adjoints."""

import torch
from torch import Tensor


def folded(padded: Tensor, margin_px: int) -> Tensor:
    """The adjoint of a border of `margin_px` repeated outwards."""
    for dim in (-2, -1):
        length = padded.shape[dim] - 2 * margin_px
        before, inside, after = torch.split(padded, [margin_px, length, margin_px], dim)
        padded = inside.clone()
        padded.narrow(dim, 0, 1).add_(before.sum(dim, keepdim=True))
        padded.narrow(dim, length - 1, 1).add_(after.sum(dim, keepdim=True))
    return padded


def shifted(rows: slice, offset: int) -> slice:
    return slice(rows.start + offset, rows.stop + offset)


def running(values: Tensor, dim: int) -> Tensor:
    """Sums of all values before each: the running sum without its own."""
    return values.cumsum(dim) - values


def running_adjoint(grad: Tensor, dim: int) -> Tensor:
    return grad.flip(dim).cumsum(dim).flip(dim) - grad


def looked_up(image: Tensor, place: Tensor) -> Tensor:
    """The values [b, 3, h, w] of an image [b, 3, H, W] at flat places [b, 1, h, w]."""
    found = image.flatten(2).gather(2, place.flatten(2).expand(-1, 3, -1))
    return found.reshape(*found.shape[:2], *place.shape[-2:])


def send(image: Tensor, place: Tensor, values: Tensor) -> None:
    """The adjoint of `_looked_up`: add values where they belong."""
    flat = image.view(*image.shape[:2], -1)
    flat.scatter_add_(2, place.flatten(2).expand(-1, 3, -1), values.flatten(2))
