"""Depth of field as pure functions: lenses, bokeh renderers, focus stacking, transfer curves. torch and jaxtyping only.

Conventions of the room. Images are [b, 3, h, w], maps (radius, disparity, mask) are [b, 1, h, w].
`radius_px` is the signed radius of the blur disc, positive in front of the focal plane. Disparity
is 0 far and 1 near. Nothing converts between display values and light unless its name says so.
"""

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.optics.bokeh import render_bokeh as render_bokeh
    from dofsuite.optics.color import display_to_linear as display_to_linear
    from dofsuite.optics.color import linear_to_display as linear_to_display
    from dofsuite.optics.color import linear_to_srgb as linear_to_srgb
    from dofsuite.optics.color import srgb_to_linear as srgb_to_linear
    from dofsuite.optics.color import srgb_to_luma as srgb_to_luma
    from dofsuite.optics.disparity_layers import DisparityLayers as DisparityLayers
    from dofsuite.optics.lens import ThinLens as ThinLens
    from dofsuite.optics.lens import bokeh_radius_px as bokeh_radius_px
    from dofsuite.optics.lens import coc_radius_px as coc_radius_px
    from dofsuite.optics.lens import pixel_pitch_mm as pixel_pitch_mm
    from dofsuite.optics.stacking import downsample_mask as downsample_mask
    from dofsuite.optics.stacking import laplacian as laplacian
    from dofsuite.optics.stacking import laplacian_sharpness as laplacian_sharpness
    from dofsuite.optics.stacking import stack_images as stack_images
    from dofsuite.optics.stacking import stack_mask as stack_mask

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DisparityLayers": "disparity_layers",
        "ThinLens": "lens",
        "bokeh_radius_px": "lens",
        "coc_radius_px": "lens",
        "display_to_linear": "color",
        "downsample_mask": "stacking",
        "laplacian": "stacking",
        "laplacian_sharpness": "stacking",
        "linear_to_display": "color",
        "linear_to_srgb": "color",
        "pixel_pitch_mm": "lens",
        "render_bokeh": "bokeh",
        "srgb_to_linear": "color",
        "srgb_to_luma": "color",
        "stack_images": "stacking",
        "stack_mask": "stacking",
    },
)
