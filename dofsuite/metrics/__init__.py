"""Metrics of depth-of-field control, as functions and as torchmetrics classes: torch, torchmetrics and our optics only.

Sweeps are [batch, settings, 3, h, w], display values in [0, 1].
"""

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.metrics.blur_gain import BlurGain as BlurGain
    from dofsuite.metrics.blur_gain import blur_gain as blur_gain
    from dofsuite.metrics.focus_hit_rate import FocusHitRate as FocusHitRate
    from dofsuite.metrics.focus_hit_rate import focus_hit_rate as focus_hit_rate
    from dofsuite.metrics.laplacian_variance import laplacian_variance as laplacian_variance
    from dofsuite.metrics.lv_corr import LVCorr as LVCorr
    from dofsuite.metrics.lv_corr import lv_corr as lv_corr

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BlurGain": "blur_gain",
        "FocusHitRate": "focus_hit_rate",
        "LVCorr": "lv_corr",
        "blur_gain": "blur_gain",
        "focus_hit_rate": "focus_hit_rate",
        "laplacian_variance": "laplacian_variance",
        "lv_corr": "lv_corr",
    },
)
