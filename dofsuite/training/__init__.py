"""What every run needs: checkpoints, resume, the run's record and log, progress and sample sheets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.training.checkpoint_io import AtomicCheckpointIO as AtomicCheckpointIO
    from dofsuite.training.diverged import refuse_diverged as refuse_diverged
    from dofsuite.training.fully_sharded import FullySharded as FullySharded
    from dofsuite.training.other_weights import refuse_other_weights as refuse_other_weights
    from dofsuite.training.progress import RunProgress as RunProgress
    from dofsuite.training.resume import newest_checkpoint as newest_checkpoint
    from dofsuite.training.resume import run_folder as run_folder
    from dofsuite.training.run_checkpoint import RunCheckpoint as RunCheckpoint
    from dofsuite.training.run_log import RunLog as RunLog
    from dofsuite.training.sheets import write_sheet as write_sheet

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "AtomicCheckpointIO": "checkpoint_io",
        "FullySharded": "fully_sharded",
        "RunCheckpoint": "run_checkpoint",
        "RunLog": "run_log",
        "RunProgress": "progress",
        "newest_checkpoint": "resume",
        "refuse_diverged": "diverged",
        "refuse_other_weights": "other_weights",
        "run_folder": "resume",
        "write_sheet": "sheets",
    },
)
