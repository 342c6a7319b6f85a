"""Shards in, batches out: manifest, loader, synthetic sets, packing (`python -m dofsuite.data`)."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
