"""Baselines of the two works: Camera Settings as Tokens, DDIM sampling and deconvolution."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
