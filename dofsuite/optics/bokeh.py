"""The door to every bokeh renderer: light and a signed radius map in, blurred light out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.optics.exact import TapScattering
from dofsuite.optics.layered import LayeredScattering, enough_layers
from dofsuite.optics.scattering import Scattering, scattered_mean


class RenderOptions(NamedTuple):
    """What a method may need beside light and radius."""

    largest_radius_px: float
    num_layers: int | None
    fft_dtype: torch.dtype


def _classical(make: Callable[[RenderOptions], Scattering]) -> Callable[[Tensor, Tensor, RenderOptions], Tensor]:
    return lambda image_linear, radius_px, options: scattered_mean(image_linear, radius_px, make(options))


def _exact(options: RenderOptions) -> Scattering:
    return TapScattering(int(options.largest_radius_px) + 1)


def _layered(options: RenderOptions) -> Scattering:
    num_layers = options.num_layers or enough_layers(options.largest_radius_px)
    return LayeredScattering(options.largest_radius_px, num_layers, options.fft_dtype)


METHODS: dict[str, Callable[[Tensor, Tensor, RenderOptions], Tensor]] = {
    "exact": _classical(_exact),
    "layered": _classical(_layered),
}
"""Method name to renderer of (image_linear, signed radius_px, options): another renderer is another line here."""


def render_bokeh(
    image_linear: Float[Tensor, "b 3 h w"],
    radius_px: Float[Tensor, "b 1 h w"],
    method: str = "layered",
    num_layers: int | None = None,
    fft_dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "b 3 h w"]:
    """Blur each pixel's light over a disc of its own radius, BokehMe's classical renderer, nothing beyond the frame.

    It blurs the values it is given: pass linear light (`srgb_to_linear`, `display_to_linear`) for what a camera does.
    Differentiable in the image and in the radius map; backward recomputes, so it saves a few maps of the image's size.

    Args:
        image_linear: light, any range; float32, bf16, fp16 (computed in float32) or float64. The result has its dtype.
        radius_px: signed blur radius of each pixel, finite. The classical kernel looks at |radius| only.
        method: `exact`, tap by tap, time growing with radius^2; or `layered`, the same by layers and FFT (default).
        num_layers: nodes of `layered` from 4 px to the largest |radius|, >= 2 (smaller radii are exact). None: enough
            for 60 dB against `exact` at gamma 2.2. Higher powers and the gradient by radius gain from more.
        fft_dtype: float64, or float32 (faster on a GPU): then light to the power 4 has a floor of 54 dB.

    Raises:
        ValueError: on shapes that do not fit, an unknown method, fewer than two layers, another fft_dtype, or a radius
            that is not finite.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(METHODS))}, not {method!r}.")
    if num_layers is not None and num_layers < 2:
        raise ValueError(f"num_layers must be at least 2, not {num_layers}.")
    if fft_dtype not in (torch.float32, torch.float64):
        raise ValueError(f"fft_dtype must be torch.float32 or torch.float64, not {fft_dtype}.")
    largest_radius_px = _largest_radius_px(image_linear, radius_px)
    return METHODS[method](image_linear, radius_px, RenderOptions(largest_radius_px, num_layers, fft_dtype))


def _largest_radius_px(image_linear: Tensor, radius_px: Tensor) -> float:
    """The largest |radius| of the batch: one wait for the device, which also tells whether all are finite."""
    batch_size, _, height, width = image_linear.shape
    if radius_px.shape != (batch_size, 1, height, width):
        raise ValueError(f"radius_px must be [{batch_size}, 1, {height}, {width}], not {list(radius_px.shape)}.")
    largest_radius_px = float(radius_px.detach().abs().max())
    if not math.isfinite(largest_radius_px):
        raise ValueError("radius_px must be finite everywhere; mask or fill the depth before it becomes a radius.")
    return largest_radius_px
