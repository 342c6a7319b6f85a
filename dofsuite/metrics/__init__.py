"""Metrics of depth-of-field control, as functions and as torchmetrics classes: torch, torchmetrics and our optics only.

Convention: a sweep is [batch, settings, 3, h, w], one picture of each scene for each setting,
display values in [0, 1]. Modules are not named like the functions in them: `from dofsuite.metrics
import lv_corr` must never find a module.
"""

from typing import TYPE_CHECKING

from dofsuite._lazy import lazy_exports

if TYPE_CHECKING:
    from dofsuite.metrics.consistency import ContentConsistency as ContentConsistency
    from dofsuite.metrics.consistency import Segmenter as Segmenter
    from dofsuite.metrics.consistency import chance_consistency as chance_consistency
    from dofsuite.metrics.consistency import content_consistency as content_consistency
    from dofsuite.metrics.focus_hits import FocusHitRate as FocusHitRate
    from dofsuite.metrics.focus_hits import focus_hit_rate as focus_hit_rate
    from dofsuite.metrics.gain import BlurGain as BlurGain
    from dofsuite.metrics.gain import blur_gain as blur_gain
    from dofsuite.metrics.image_similarity import CLIPImageSimilarity as CLIPImageSimilarity
    from dofsuite.metrics.image_similarity import ImageEmbedder as ImageEmbedder
    from dofsuite.metrics.image_similarity import clip_image_similarity as clip_image_similarity
    from dofsuite.metrics.level_correlation import LVCorr as LVCorr
    from dofsuite.metrics.level_correlation import lv_corr as lv_corr
    from dofsuite.metrics.monotonicity import BlurMonotonicity as BlurMonotonicity
    from dofsuite.metrics.monotonicity import blur_energy as blur_energy
    from dofsuite.metrics.monotonicity import blur_monotonicity as blur_monotonicity
    from dofsuite.metrics.sharpness import laplacian_variance as laplacian_variance

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BlurGain": "gain",
        "BlurMonotonicity": "monotonicity",
        "CLIPImageSimilarity": "image_similarity",
        "ContentConsistency": "consistency",
        "FocusHitRate": "focus_hits",
        "ImageEmbedder": "image_similarity",
        "LVCorr": "level_correlation",
        "Segmenter": "consistency",
        "blur_energy": "monotonicity",
        "blur_gain": "gain",
        "blur_monotonicity": "monotonicity",
        "chance_consistency": "consistency",
        "clip_image_similarity": "image_similarity",
        "content_consistency": "consistency",
        "focus_hit_rate": "focus_hits",
        "laplacian_variance": "sharpness",
        "lv_corr": "level_correlation",
    },
)
