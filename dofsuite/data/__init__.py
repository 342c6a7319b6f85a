"""Shards in, batches out: the manifest, the loader, the synthetic data, and the packer (`python -m dofsuite.data`)."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
