"""Measuring runs: the refocus benchmark, the text-to-image tables, the EBB! checks and the ablation tables."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
