"""Bytes of tensors that are alive, from a storage's first appearance to its death."""

import weakref
from collections import Counter

from torch import Tensor


class LiveBytes:
    """Counts each storage once, under the name that it was first added with."""

    def __init__(self) -> None:
        self.live: Counter[str] = Counter()
        self.at_peak: Counter[str] = Counter()
        self.total = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: Tensor, name: str = "") -> None:
        """Count a tensor's storage until it is freed; one that is known already is left."""
        storage = tensor.untyped_storage()
        key, size_bytes = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live[name] += size_bytes
        self.total += size_bytes
        weakref.finalize(storage, self._freed, key, name, size_bytes)
        if self.total > self.peak:
            self.peak, self.at_peak = self.total, self.live.copy()

    def _freed(self, key: int, name: str, size_bytes: int) -> None:
        self._known.discard(key)
        self.live[name] -= size_bytes
        self.total -= size_bytes
