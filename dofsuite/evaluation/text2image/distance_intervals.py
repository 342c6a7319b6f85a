"""KID and FID of a method's images as statistics over prompts, which their intervals come from.

The photographs are taken as they are: an interval says what other prompts of the same kind would
have given.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dofsuite.evaluation.statistics import Statistic
from dofsuite.evaluation.text2image.features import COEF, DEGREE

# More features have no interval of FID: a resample takes a matrix root of their number.
MOST_FID_FEATURES = 64


def kid_statistic(real: Float[Tensor, "m d"], prompts: Sequence[Float[Tensor, "_ d"]]) -> Statistic:
    """Return KID as a statistic: the unbiased squared MMD (arXiv 1801.01401, eq. 4).

        sum_(i != j) w_i w_j k(x_i, x_j) / sum_(i != j) w_i w_j
            + mean_(i != j) k(y_i, y_j) - 2 sum_i w_i mean_j k(x_i, y_j) / sum_i w_i

    for images x, photographs y, k(a, b) = (a b / d + 1)^3, and how often w_i a resample has the
    prompt of image i. An image drawn twice is no pair with itself, whose k is the largest.

    Args:
        real: Features of the photographs.
        prompts: Of each prompt's images.
    """
    images = torch.cat(list(prompts))
    sizes = torch.tensor([len(each) for each in prompts])
    prompt_of = torch.repeat_interleave(sizes)
    # Sums over the pairs of two prompts' images; of an image with itself; with the photographs
    pairs = images.new_zeros(len(prompts), len(prompts))
    for row, of_prompt in enumerate(prompts):
        pairs[row].index_add_(0, prompt_of, _kernel(of_prompt, images).sum(dim=0))
    itself = images.new_zeros(len(prompts))
    itself.index_add_(0, prompt_of, _kernel_of_itself(images))
    crossed = torch.stack([_kernel(each, real).mean(dim=1).sum() for each in prompts])
    # Among the photographs
    total = sum(_kernel(part, real).sum() for part in real.split(1024))
    among = (total - _kernel_of_itself(real).sum()) / (len(real) * (len(real) - 1))

    def value(weights: Float[Tensor, "r prompts"]) -> Float[Tensor, " r"]:
        squares, count = weights.square(), weights @ sizes.to(weights)
        own = ((weights @ pairs) * weights).sum(dim=1) - squares @ itself
        own = own / (count.square() - squares @ sizes.to(weights))
        return own + among - 2 * (weights @ crossed) / count

    return Statistic(torch.eye(len(prompts), dtype=torch.float64), value)


def fid_statistic(
    real: Float[Tensor, "m d"], prompts: Sequence[Float[Tensor, "_ d"]]
) -> Statistic | None:
    """Return FID (arXiv 1706.08500) as a statistic, for differences; None of too many features.

        |mu_x - mu_y|^2 + tr(C_x) + tr(C_y) - 2 tr((C_y^(1/2) C_x C_y^(1/2))^(1/2))

    Alone it has no interval: a resample has fewer different images, which raises it.
    """
    size = real.shape[1]
    if size > MOST_FID_FEATURES:
        return None
    # Sums of each prompt: images, features, products of features
    totals = torch.stack(
        [torch.cat([x.new_tensor([len(x)]), x.sum(0), (x.T @ x).flatten()]) for x in prompts]
    )
    mean, covariance = real.mean(dim=0), torch.cov(real.T).reshape(size, size)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T

    def value(sums: Float[Tensor, "r k"]) -> Float[Tensor, " r"]:
        # Mean and covariance of each resample
        count = sums[:, :1]
        own_mean = sums[:, 1 : 1 + size] / count
        products = sums[:, 1 + size :].reshape(-1, size, size)
        outer = own_mean[:, :, None] * own_mean[:, None, :]
        own = (products - count[..., None] * outer) / (count[..., None] - 1)
        # The distance of both Gaussians
        eigenvalues = torch.linalg.eigvalsh(root @ own @ root)
        traces = own.diagonal(dim1=1, dim2=2).sum(dim=1) + covariance.trace()
        between = (own_mean - mean).square().sum(dim=1)
        return between + traces - 2 * eigenvalues.clamp(min=0).sqrt().sum(dim=1)

    return Statistic(totals, value)


def _kernel(a: Float[Tensor, "m d"], b: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    return (a @ b.T / a.shape[1] + COEF) ** DEGREE


def _kernel_of_itself(a: Float[Tensor, "m d"]) -> Float[Tensor, " m"]:
    return (a.square().sum(dim=1) / a.shape[1] + COEF) ** DEGREE
