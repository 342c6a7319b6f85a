"""Shards in, batches out: the manifest, the loader, the embedded data, and the packer (`python -m dofsuite.data`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.data.batch import Batch as Batch
    from dofsuite.data.batch import refuse_without_depth as refuse_without_depth
    from dofsuite.data.manifest import Manifest as Manifest
    from dofsuite.data.manifest import read_manifest as read_manifest
    from dofsuite.data.middlebury import Motorcycle as Motorcycle
    from dofsuite.data.middlebury import motorcycle as motorcycle
    from dofsuite.data.module import ShardData as ShardData
    from dofsuite.data.order import CycleSchedule as CycleSchedule
    from dofsuite.data.order import SourceSchedule as SourceSchedule
    from dofsuite.data.shards import ShardReader as ShardReader
    from dofsuite.data.shards import ShardWriter as ShardWriter
    from dofsuite.data.shards import write_shards as write_shards

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Batch": "batch",
        "CycleSchedule": "order",
        "Manifest": "manifest",
        "Motorcycle": "middlebury",
        "ShardData": "module",
        "ShardReader": "shards",
        "ShardWriter": "shards",
        "SourceSchedule": "order",
        "motorcycle": "middlebury",
        "read_manifest": "manifest",
        "refuse_without_depth": "batch",
        "write_shards": "shards",
    },
)
