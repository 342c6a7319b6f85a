"""The inverse of `dofsuite.diffusion.x_from_noise`, from which tests build denoisers with a closed
form.
"""

from __future__ import annotations

from torch import Tensor


def noise_from_x(noisy: Tensor, x: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """eps = (x_t - sqrt(a_t) x) / sqrt(1 - a_t), in float32 or, where `noisy` comes in it,
    float64.
    """
    a = alphas_cumprod[t].reshape(-1, *[1] * (noisy.ndim - 1))
    noisy = noisy if noisy.element_size() == 8 else noisy.float()
    return (noisy - a.sqrt().to(noisy.dtype) * x) / (1 - a).sqrt().to(noisy.dtype)
