"""Pretrained and small networks.

With the pipelines, the only importers of diffusers, transformers and peft.
"""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
