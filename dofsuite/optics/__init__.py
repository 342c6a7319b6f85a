"""Depth of field as pure functions: lenses, bokeh renderers, focus stacking, transfer curves.

Needs torch and jaxtyping only.

Conventions: images are [b, 3, h, w], maps (radius, disparity, mask) are [b, 1, h, w].
`radius_px` is the signed radius of the blur disc, positive in front of the focal plane. Disparity
is 0 far and 1 near. Nothing converts between display values and light unless its name says so.
"""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
