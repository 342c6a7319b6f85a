"""The entry point of every bokeh renderer: light and a signed radius map in, blurred light out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.optics.aperture import ROUND, Aperture, BlurShape, Tile
from dofsuite.optics.exact import TapScattering
from dofsuite.optics.gather import gathered_mean
from dofsuite.optics.layered import LayeredScattering, default_num_layers
from dofsuite.optics.meta import has_values, stated_range_px
from dofsuite.optics.occlusion import default_num_depth_layers, occluding_layers
from dofsuite.optics.scattering import scattered_mean
from dofsuite.optics.shaped_layers import ShapedLayers


class RenderOptions(NamedTuple):
    # Each item's smallest and largest signed radius: of its farthest and its nearest pixel.
    radius_ranges_px: list[tuple[float, float]]
    num_layers: int | None
    fft_dtype: torch.dtype
    aperture: Aperture
    tile: Tile | None
    reads_radius: bool = True

    @property
    def largest_radius_px(self) -> float:
        return max(
            (abs(radius_px) for extremes in self.radius_ranges_px for radius_px in extremes),
            default=0.0,
        )

    def shape_of(self, image_linear: Tensor, radius_px: Tensor) -> BlurShape | None:
        """Each pixel's shape where the aperture is not round."""
        if self.aperture.is_round:
            return None
        dtype = torch.promote_types(
            torch.promote_types(image_linear.dtype, radius_px.dtype), torch.float32
        )
        return BlurShape(self.aperture, radius_px, dtype, self.tile)


def _exact(image_linear: Tensor, radius_px: Tensor, options: RenderOptions) -> Tensor:
    shape = options.shape_of(image_linear, radius_px)
    scattering = TapScattering(int(options.largest_radius_px) + 1, shape)
    return scattered_mean(image_linear, radius_px, scattering)


def _layered(image_linear: Tensor, radius_px: Tensor, options: RenderOptions) -> Tensor:
    largest_px = options.largest_radius_px
    num_layers = options.num_layers or default_num_layers(largest_px)
    shape = options.shape_of(image_linear, radius_px)
    if shape is not None:
        shaped = ShapedLayers(largest_px, num_layers, options.fft_dtype, shape)
        return scattered_mean(image_linear, radius_px, shaped)
    scattering = LayeredScattering(largest_px, num_layers, options.fft_dtype)
    return scattered_mean(image_linear, radius_px, scattering)


def _gather(image_linear: Tensor, radius_px: Tensor, options: RenderOptions) -> Tensor:
    if not options.aperture.is_round:
        raise ValueError(
            "gather has a round aperture only; exact, layered and occlusion have the others."
        )
    return gathered_mean(image_linear, radius_px, options.largest_radius_px)


def _occlusion(image_linear: Tensor, radius_px: Tensor, options: RenderOptions) -> Tensor:
    """Render items with equally many layers together: an item's layers depend on its blur alone."""
    counts = [
        options.num_layers or default_num_depth_layers(*extremes)
        for extremes in options.radius_ranges_px
    ]
    if len(set(counts)) <= 1:
        num_layers = counts[0] if counts else 2
        return occluding_layers(
            image_linear,
            radius_px,
            options.radius_ranges_px,
            num_layers,
            options.fft_dtype,
            options.aperture,
            options.tile,
            options.reads_radius,
        )
    # Group the items by their number of layers, render each group, and restore the order.
    items: list[int] = []
    rendered = []
    for number in sorted(set(counts)):
        group = [i for i, count in enumerate(counts) if count == number]
        ranges_px = [options.radius_ranges_px[i] for i in group]
        group_options = options._replace(radius_ranges_px=ranges_px)
        rendered.append(_occlusion(image_linear[group], radius_px[group], group_options))
        items += group
    return torch.cat(rendered)[torch.tensor(items, device=image_linear.device).argsort()]


# Renderers of (image_linear, signed radius_px, options) by name: a new one is one more line.
METHODS: dict[str, Callable[[Tensor, Tensor, RenderOptions], Tensor]] = {
    "exact": _exact,
    "gather": _gather,
    "layered": _layered,
    "occlusion": _occlusion,
}


def render_bokeh(
    image_linear: Float[Tensor, "b 3 h w"],
    radius_px: Float[Tensor, "b 1 h w"],
    method: str = "layered",
    num_layers: int | None = None,
    fft_dtype: torch.dtype = torch.float64,
    radius_range_px: tuple[float, float] | None = None,
    aperture: Aperture = ROUND,
    tile: Tile | None = None,
    reads_radius: bool = True,
) -> Float[Tensor, "b 3 h w"]:
    """Blur each pixel's light over a disc of its own radius, by one of four methods.

    - `exact`: BokehMe's classical scatter, tap by tap, time growing with radius^2: the reference.
    - `layered`: the same by layers and FFT (default).
    - `gather`: TAF's disc (paper 1's lens): each pixel averages its surroundings over its own
      radius, the identity up to a radius of 0.5 px (a circle of confusion of 1 px). Time grows with
      the radius.
    - `occlusion`: layers of depth, the nearer over the farther: no light bleeds over an edge in
      focus, and the background is visible past an edge out of focus. The only method that uses
      the radius' sign. At radius 0 exactly the identity.

    It blurs the values it is given: pass linear light (`srgb_to_linear`, `display_to_linear`) for
    what a camera does. Nothing lies beyond the frame, except with `gather`, which repeats the
    border outwards as TAF does. Differentiable in the image and in the radius map; backward
    recomputes, so it saves a few maps of the image's size (`occlusion`: a few for each layer in
    use). Without values, on the meta device and under FakeTensorMode, the shapes are right and the
    largest radius is taken as 0, or as what `dofsuite.optics.meta.stated_radius` says.

    The aperture is round unless `aperture` says otherwise: a polygon, with the sign of the radius
    point-reflecting it, or a cat's eye towards the corners. `layered` and `occlusion` interpolate a
    cat's eye's kernels between those of a grid of windows.

    Args:
        image_linear: light, any range; float32, bf16, fp16 (computed in float32) or float64. The
            result has its dtype.
        radius_px: signed blur radius of each pixel, finite. With a round aperture all methods but
            `occlusion` use |radius| only.
        method: one of the four above.
        num_layers: for `layered`, nodes from 4 px to the largest |radius| (smaller radii are
            exact; above 24 px, in large images, they are closer); None: enough for 60 dB against
            `exact` at gamma 2.2; higher powers and the gradient by radius gain from more. For
            `occlusion`, layers from the farthest to the nearest signed radius; None: as many as an
            item needs, see `default_num_depth_layers`. >= 2.
        fft_dtype: of `layered` and `occlusion`: float64, or float32 (faster on a GPU): then light
            to the power 4 has a floor of 54 dB.
        radius_range_px: the smallest and the largest signed radius of the photograph that this is a
            tile of: `occlusion` then has the same layers in every tile. None: of each item.
        aperture: its shape; `gather` has a round one only.
        tile: where in a photograph the images lie, for a cat's eye. None: they are whole.
        reads_radius: True reads the smallest and largest radius of each item, one wait for the
            device a call (`occlusion`: two), so that the work is what these radii take. False
            never waits: `radius_range_px` is a promise, unchecked, and the work is what it takes.
            A bound far above the true radii costs more than the wait (`gather`: in proportion), so
            False is for radii that the configuration sets, like DiffCamera's levels, and for
            counting without values. With the same range both have the same numbers, to rounding.

    Raises:
        ValueError: on shapes that do not fit, no `radius_range_px` or no round aperture where
            `reads_radius` is False, an unknown method, fewer than two layers, another
            fft_dtype, a radius that is not finite, one outside `radius_range_px`, `gather` with
            another aperture, or a tile that does not lie in its photograph.
    """
    # Every argument by its name
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(METHODS))}, not {method!r}.")
    if num_layers is not None and num_layers < 2:
        raise ValueError(f"num_layers must be at least 2, not {num_layers}.")
    if fft_dtype not in (torch.float32, torch.float64):
        raise ValueError(f"fft_dtype must be torch.float32 or torch.float64, not {fft_dtype}.")
    if tile is not None and not tile.holds(*image_linear.shape[-2:]):
        raise ValueError(f"the image does not lie within the photograph of {tile}.")
    if not reads_radius and (radius_range_px is None or not aperture.is_round):
        raise ValueError("reads_radius=False needs radius_range_px and a round aperture.")
    _check_shapes(image_linear, radius_px)
    # Radii
    radius_ranges_px = [radius_range_px or stated_range_px()] * len(image_linear)
    if reads_radius and has_values(radius_px):
        read_ranges_px = _radius_ranges_px(radius_px)
        if radius_range_px is None:
            radius_ranges_px = read_ranges_px
        elif not all(_lies_within(each, radius_range_px) for each in read_ranges_px):
            raise ValueError(f"radius_px must lie within radius_range_px, {radius_range_px}.")
    options = RenderOptions(radius_ranges_px, num_layers, fft_dtype, aperture, tile, reads_radius)
    return METHODS[method](image_linear, radius_px, options)


def _check_shapes(image_linear: Tensor, radius_px: Tensor) -> None:
    batch_size, _, height, width = image_linear.shape
    if radius_px.shape != (batch_size, 1, height, width):
        raise ValueError(
            f"radius_px must be [{batch_size}, 1, {height}, {width}], not {list(radius_px.shape)}."
        )


def _radius_ranges_px(radius_px: Tensor) -> list[tuple[float, float]]:
    """Each item's smallest and largest radius; checks that all are finite (one device sync)."""
    farthest_px, nearest_px = torch.stack(radius_px.detach().flatten(1).aminmax(dim=1)).tolist()
    if not all(map(math.isfinite, (*farthest_px, *nearest_px))):
        raise ValueError(
            "radius_px must be finite everywhere; mask or fill the depth before it becomes a "
            "radius."
        )
    return list(zip(farthest_px, nearest_px, strict=True))


def _lies_within(inner: tuple[float, float], outer: tuple[float, float]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]
