"""What a refocused picture says of itself: a sentence where it moved, zoomed or changed its color.

A refocus does none of that, but models that edit pictures do (`dofsuite.metrics.Alignment`).
"""

import math

from jaxtyping import Float
from torch import Tensor

from dofsuite.images import resize
from dofsuite.metrics import color_drift, fit_alignment
from dofsuite.metrics.phase_correlation import SMALLEST_PX

# Less is not said (*ours*): pixels and share of the long side, and twice a just noticeable Delta E.
MOVED_PX, ZOOMED = 1.0, 0.005
TINTED = 4.6


def what_moved(answer: Float[Tensor, "3 h w"], given: Float[Tensor, "3 height width"]) -> list[str]:
    """Return what of the answer is not where or as it was given, as parts of one sentence.

    Args:
        answer: The network's answer, display values in [0, 1].
        given: The photograph of any size; it is resized to the answer's.
    """
    if min(answer.shape[-2:]) < SMALLEST_PX:
        return []
    pair = answer[None].clamp(0, 1), resize(given[None], *answer.shape[-2:]).clamp(0, 1)

    # Place
    fit, said = fit_alignment(*pair), []
    (x, y), scale = fit.shift_px[0].tolist(), float(fit.scale)
    if math.hypot(x, y) > MOVED_PX:
        said.append(f"moved by {x:+.1f} px across and {y:+.1f} px down")
    if abs(scale - 1) > ZOOMED:
        said.append(f"zoomed by {100 * (scale - 1):+.1f} %")

    # Color
    if (drift := float(color_drift(*pair))) > TINTED:
        said.append(f"changed its color by Delta E {drift:.1f}")
    return said
