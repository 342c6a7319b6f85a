"""Color drift: how much the low-passed picture changed its color (*ours*), without torchmetrics."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dofsuite.metrics.phase_correlation import checked_pair
from dofsuite.metrics.precision import widen
from dofsuite.optics import srgb_to_linear

# CIE XYZ of linear sRGB (IEC 61966-2-1), rows over the white D65.
XYZ_OF_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
# Color is compared at this size, after a Gaussian blur of a sixteenth of the long side.
COLOR_PX = 64


@torch.no_grad()
def color_drift(
    preds: Float[Tensor, "b 3 h w"], reference: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, " b"]:
    """Mean color difference of the low-passed pictures, Delta E of CIE 1976; 0 for a copy.

        drift = mean over pixels of |Lab(low-passed pred) - Lab(low-passed reference)|

    The low pass is taken of linear light, as a lens blurs, so that it hides what refocusing does:
    to 64 px by area, then a Gaussian with a sigma of a sixteenth of the long side. About 2.3 is
    just noticeable.

    Args:
        preds: the results, sRGB display values in [0, 1].
        reference: the pictures that they were made from, of the same size.

    Raises:
        ValueError: as `fit_alignment`.

    Example:
        >>> import torch
        >>> gray = torch.full((1, 3, 32, 32), 0.5)
        >>> round(color_drift(gray, gray).item(), 4), color_drift(gray * 1.1, gray).item() > 1
        (0.0, True)
    """
    preds, reference = checked_pair(preds, reference)
    difference = _lab(_low_passed(preds)) - _lab(_low_passed(reference))
    return difference.square().sum(dim=1).sqrt().mean(dim=(-2, -1))


def _low_passed(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 rows columns"]:
    # Linear light, reduced by area, then blurred along both axes
    ratio = min(1.0, COLOR_PX / max(images.shape[-2:]))
    height, width = (max(1, round(side * ratio)) for side in images.shape[-2:])
    light = functional.adaptive_avg_pool2d(srgb_to_linear(widen(images)), (height, width))
    sigma = max(height, width) / 16
    for axis in (-2, -1):
        place = torch.arange(light.shape[axis], dtype=light.dtype, device=light.device)
        kernel = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
        kernel = kernel / kernel.sum(dim=1, keepdim=True)
        light = (kernel @ light) if axis == -2 else (light @ kernel.T)
    return light


def _lab(light: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    # CIE L*a*b* of linear sRGB, white D65
    matrix = light.new_tensor(XYZ_OF_RGB)
    xyz = torch.einsum("ij,bjhw->bihw", matrix / matrix.sum(dim=1, keepdim=True), light)
    root = xyz.clamp(min=0) ** (1 / 3)
    x, y, z = torch.where(xyz > (6 / 29) ** 3, root, xyz * (29 / 6) ** 2 / 3 + 4 / 29).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
