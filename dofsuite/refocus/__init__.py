"""DiffCamera (arXiv 2509.26599): refocus any image at a chosen point with a chosen bokeh level."""

import dofsuite.backbones  # noqa: F401  (before diffusers)
from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
