"""Experiments: read strictly, one sentence for a mistake, and run in their folder."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
