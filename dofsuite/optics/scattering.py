"""From a scattering operator to an image: weighted mean, gradient and precision.

A `Scattering` is a linear map of light that depends on a radius map. `scatter` sends each pixel's
light to its neighbors, `scatter_adjoint` is its adjoint. Both recompute what they need from image
and radius, so that what is saved for backward is a few maps of the image's size, whatever the
radius.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


@runtime_checkable
class Scattering(Protocol):
    """A linear map of light [b, 4, h, w] (RGB, and 1 as weight) by radius [b, 1, h, w] >= 0."""

    def scatter(self, light: Tensor, radius_px: Tensor) -> Tensor:
        """Sum at each pixel the light sent to it, zero outside the frame: [b, 4, h, w]."""

    def scatter_adjoint(
        self, grad_sums: Tensor, light: Tensor, radius_px: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients by light [b, 4, h, w] and radius [b, 1, h, w], from those by the sums."""


def scattered_mean(
    image_linear: Float[Tensor, "b 3 h w"],
    radius_px: Float[Tensor, "b 1 h w"],
    scattering: Scattering,
) -> Float[Tensor, "b 3 h w"]:
    """Scattered light over scattered weight, in the dtype of the image.

    Computed in float32 or float64. Only |radius| matters: the classical kernel knows no occlusion.
    The gradient at radius 0 is 0 (the middle of the kink).
    """
    # A bf16 sum of hundreds of taps would be noise. float64 is kept where it is given.
    working_dtype = torch.promote_types(
        torch.promote_types(image_linear.dtype, radius_px.dtype), torch.float32
    )
    with without_autocast(image_linear):
        arguments = (image_linear.to(working_dtype), radius_px.to(working_dtype).abs(), scattering)
        sums: Tensor = _ScatteredSums.apply(*arguments)  # type: ignore[no-untyped-call]
        return (sums[:, :3] / sums[:, 3:]).to(image_linear.dtype)


class _ScatteredSums(torch.autograd.Function):
    """Saves image and radius only; backward scatters again."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radius: Tensor, scattering: Scattering) -> Tensor:
        ctx.save_for_backward(image, radius)
        ctx.scattering = scattering
        return scattering.scatter(with_weight(image), radius)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor, Tensor, None]:
        image, radius = ctx.saved_tensors
        grad_light, grad_radius = ctx.scattering.scatter_adjoint(
            grad_sums, with_weight(image), radius
        )
        return grad_light[:, :3], grad_radius, None


def with_weight(image: Tensor) -> Tensor:
    """Light [b, 4, h, w]: the image, and 1 in the channel that sums up the weights."""
    return torch.cat([image, torch.ones_like(image[:, :1])], dim=1)


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Context without autocast on the device of `like`; the meta device has none to disable."""
    device_type = like.device.type
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
