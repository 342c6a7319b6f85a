"""What every run needs: checkpoints, resume, the run's record and log, progress and sample sheets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.training.checkpoints.compatibility import check_compatible as check_compatible
    from dofsuite.training.checkpoints.every_n import RunCheckpoint as RunCheckpoint
    from dofsuite.training.checkpoints.io import AtomicCheckpointIO as AtomicCheckpointIO
    from dofsuite.training.checkpoints.resume import newest_checkpoint as newest_checkpoint
    from dofsuite.training.checkpoints.resume import run_folder as run_folder
    from dofsuite.training.run.divergence import check_not_diverged as check_not_diverged
    from dofsuite.training.run.log import RunLog as RunLog
    from dofsuite.training.run.progress import RunProgress as RunProgress
    from dofsuite.training.sample_sheet import write_sheet as write_sheet
    from dofsuite.training.sharding.strategy import FullySharded as FullySharded

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "LrSchedule": "lr_schedule",
        "AtomicCheckpointIO": "checkpoints.io",
        "FullySharded": "sharding.strategy",
        "RunCheckpoint": "checkpoints.every_n",
        "RunLog": "run.log",
        "RunProgress": "run.progress",
        "newest_checkpoint": "checkpoints.resume",
        "check_not_diverged": "run.divergence",
        "check_compatible": "checkpoints.compatibility",
        "run_folder": "checkpoints.resume",
        "write_sheet": "sample_sheet",
    },
)
