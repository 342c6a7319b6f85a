"""Metrics of depth-of-field control, as functions and as torchmetrics classes: torch, torchmetrics and our optics only.

Convention: a sweep is [batch, settings, 3, h, w], one picture of each scene for each setting, display values in [0, 1].
Modules are not named like the functions in them: `from dofsuite.metrics import lv_corr` must never find a module.
"""

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.metrics.focus_hits import FocusHitRate as FocusHitRate
    from dofsuite.metrics.focus_hits import focus_hit_rate as focus_hit_rate
    from dofsuite.metrics.gain import BlurGain as BlurGain
    from dofsuite.metrics.gain import blur_gain as blur_gain
    from dofsuite.metrics.level_correlation import LVCorr as LVCorr
    from dofsuite.metrics.level_correlation import lv_corr as lv_corr
    from dofsuite.metrics.sharpness import laplacian_variance as laplacian_variance

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BlurGain": "gain",
        "FocusHitRate": "focus_hits",
        "LVCorr": "level_correlation",
        "blur_gain": "gain",
        "focus_hit_rate": "focus_hits",
        "laplacian_variance": "sharpness",
        "lv_corr": "level_correlation",
    },
)
