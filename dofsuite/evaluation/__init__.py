"""Measuring runs: refocus benchmark, text-to-image tables, EBB! checks, ablations, human study."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
