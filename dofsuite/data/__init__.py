"""Shards in, batches out: the manifest, the loader, the embedded data, and the packer (`python -m dofsuite.data`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.data.batch import Batch as Batch
    from dofsuite.data.batch import check_has_depth as check_has_depth
    from dofsuite.data.manifest import Manifest as Manifest
    from dofsuite.data.manifest import read_manifest as read_manifest
    from dofsuite.data.module import ShardData as ShardData
    from dofsuite.data.sampler import CycleSchedule as CycleSchedule
    from dofsuite.data.sampler import SourceSchedule as SourceSchedule
    from dofsuite.data.shards import ShardReader as ShardReader
    from dofsuite.data.shards import ShardWriter as ShardWriter
    from dofsuite.data.shards import write_shards as write_shards
    from dofsuite.data.synthetic.motorcycle import Motorcycle as Motorcycle
    from dofsuite.data.synthetic.motorcycle import motorcycle as motorcycle

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Batch": "batch",
        "CycleSchedule": "sampler",
        "Manifest": "manifest",
        "Motorcycle": "synthetic.motorcycle",
        "ShardData": "module",
        "ShardReader": "shards",
        "ShardWriter": "shards",
        "SourceSchedule": "sampler",
        "motorcycle": "synthetic.motorcycle",
        "read_manifest": "manifest",
        "check_has_depth": "batch",
        "write_shards": "shards",
    },
)
