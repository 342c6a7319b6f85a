"""Imperfect depth (DiffCamera, appendix E): what does a model do without it, or if it is wrong?"""

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.diffusion import sample_generator
from dofsuite.evaluation.refocus.config import Perturbation

TITLES: dict[Perturbation, str] = {
    "given": "",
    "zero": "zero depth",
    "mask": "depth masked",
    "crop": "depth cropped",
    "noise": "depth with noise",
}
# *Stated*: each pixel is set to 0 with this probability.
MASKED_SHARE = 0.3
# *Stated*: "standard Gaussian noise", independent for each pixel; of a disparity in [0, 1]
# (*inferred*).
NOISE_SIGMA = 1.0


def perturb(
    disparity: Float[Tensor, "1 1 h w"], kind: Perturbation, seed: int
) -> Float[Tensor, "1 1 h w"]:
    """Return a disparity in [0, 1], corrupted in one of Table 6's ways.

        zero   all 0
        mask   each pixel 0 with probability 0.3
        crop   one rectangle of random size and place set to 0
        noise  D + n, n ~ N(0, 1) in each pixel, clamped to [0, 1]

    Paper: the rectangle's sizes are not given, nor what becomes of values outside the depth map's
    range. Here: both corners are uniform over the image (a ninth of it on average), and values are
    clamped, because a depth map is given to the VAE as an image.

    Args:
        disparity: In [0, 1].
        kind: Which way; `given` returns the disparity itself.
        seed: Of this sample; nothing else is random.
    """
    generator = sample_generator(seed, 0, f"depth/{kind}")
    if kind == "zero":
        return torch.zeros_like(disparity)
    if kind == "mask":
        return disparity * (torch.rand(disparity.shape, generator=generator) >= MASKED_SHARE)
    if kind == "noise":
        noise = NOISE_SIGMA * torch.randn(disparity.shape, generator=generator)
        return (disparity + noise).clamp(0, 1)
    if kind == "given":
        return disparity

    # The rectangle between two corners (y, y, x, x as fractions); at least one pixel
    height, width = disparity.shape[-2:]
    fractions = torch.rand(4, generator=generator).tolist()
    top, bottom = sorted(int(fraction * height) for fraction in fractions[:2])
    left, right = sorted(int(fraction * width) for fraction in fractions[2:])
    result = disparity.clone()
    result[..., top : bottom + 1, left : right + 1] = 0
    return result
