"""Fine-grained defocus control (arXiv 2510.06215): few-step text-to-image through a lens."""

import dofsuite.backbones  # noqa: F401  (before diffusers)
from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
