"""Photographs at full size: their files, depth, camera, rendering and animations."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
