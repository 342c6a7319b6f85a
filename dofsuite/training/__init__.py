"""What every run needs: checkpoints, resume, the run's record and log, progress and sample sheets."""

from dofsuite._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
