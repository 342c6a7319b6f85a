"""Fine-grained defocus control (arXiv 2510.06215): a few-step text-to-image generator with a lens in the loop."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
