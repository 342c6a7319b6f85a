"""A refocused photograph at its full size, from the network's small answer (*ours*).

The network makes what a renderer cannot: sharpness where the photograph has none. It does so at the
size it was trained at. Where the photograph itself has the detail, a renderer brings it to full
size. So the network's answer gives the coarse scales and the rendering the fine ones:

    full = up(network) + rendered - up(down(rendered))

`rendered` is the photograph, blurred by a lens at full size as if it were all in focus. Where it
should be sharp and is, its fine scales are the photograph's own; where it should be blurred, there
are none; where it should be sharp and is not, there are none either, and the network's answer
stands, enlarged.
"""

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import interpolate

from dofsuite.optics import bokeh_radius_px
from dofsuite.photography import Photo, SceneDepth, render_full_size


def with_fine_scales(coarse: Tensor, rendered: Tensor) -> Tensor:
    """Return `coarse` [3, h, w] at the size of `rendered` [3, H, W], with the latter's fine scales.

    Both are display values in [0, 1], and so is the result.
    """
    size = (rendered.shape[-2], rendered.shape[-1])
    # Unclamped, so that what is subtracted is exactly what the coarse scales hold.
    small = interpolate(rendered[None], coarse.shape[-2:], mode="bicubic", antialias=True)
    difference = interpolate(coarse[None] - small, size, mode="bicubic")[0]
    return (rendered + difference).clamp(0, 1)


def full_size_photo(
    photo: Photo,
    refocused_srgb: Tensor,
    depth: SceneDepth,
    focus_point: tuple[float, float],
    bokeh_level: float,
    reference_width_px: float,
) -> Photo:
    """Return a photograph refocused at full size, in its own color space.

    Args:
        photo: The photograph as it was given to the network.
        refocused_srgb: The network's answer [3, h, w], display values.
        depth: Of the photograph, at its full size.
        focus_point: (x, y) as fractions of width and height.
        bokeh_level: Pixels of radius per unit of disparity where the long side has
            `reference_width_px`.
        reference_width_px: The camera token's.
    """
    # The lens at full size
    radius_px = bokeh_radius_px(
        depth.disparity, depth.at(focus_point), bokeh_level, max(photo.size), reference_width_px
    )
    rendered = photo.with_light(render_full_size(photo.to_linear(), radius_px[0]))
    # Its fine scales, on the network's coarse ones
    coarse = photo.from_srgb(refocused_srgb)
    return replace(rendered, image=with_fine_scales(coarse, rendered.image))
