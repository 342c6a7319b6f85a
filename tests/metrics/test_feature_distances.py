"""FID and KID are torchmetrics' own: given a feature network they need neither torchvision nor
torch-fidelity.

`torchmetrics.image` names them only where torch-fidelity is installed, so they are imported from
their own modules.
"""

import sys

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance


class TinyFeatures(torch.nn.Module):
    """Images [n, 3, h, w] in [0, 1] -> [n, 6]: what torchmetrics asks for is this shape and
    `num_features`.
    """

    num_features = 6

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 6, 3, dtype=torch.float64)

    def forward(self, images):
        return self.convolution(images.double()).relu().mean(dim=(-2, -1))


@pytest.fixture
def sets():
    generator = torch.Generator().manual_seed(1)
    real = torch.rand(40, 3, 9, 8, generator=generator)
    return real, real.flip(0) ** 1.3


@pytest.fixture
def features(sets):
    with torch.no_grad():
        return tuple(TinyFeatures()(images).numpy() for images in sets)


def score(metric, sets):
    for images, real in zip(sets, (True, False), strict=True):
        for batch in images.split(17):
            metric.update(batch, real=real)
    return metric.compute()


def test_fid_of_our_features_is_scipy_s(sets, features):
    means, covariances = [f.mean(0) for f in features], [np.cov(f.T) for f in features]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(
        covariances[0] + covariances[1] - 2 * root
    )
    fid = score(FrechetInceptionDistance(feature=TinyFeatures(), normalize=True), sets)
    assert fid.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_kid_of_our_features_is_numpy_s(sets, features):
    real, fake = features
    kernel = lambda a, b: (a @ b.T / 6 + 1) ** 3  # noqa: E731
    unbiased = lambda k: (k.sum() - np.trace(k)) / (40 * 39)  # noqa: E731
    expected = (
        unbiased(kernel(real, real)) + unbiased(kernel(fake, fake)) - 2 * kernel(real, fake).mean()
    )
    # subsets of all images: the score does not depend on what is drawn
    metric = KernelInceptionDistance(
        feature=TinyFeatures(), subsets=2, subset_size=40, normalize=True
    )
    mean, spread = score(metric, sets)
    assert mean.item() == pytest.approx(expected, rel=1e-5)
    assert spread.item() == pytest.approx(0, abs=1e-9)


def test_neither_torchvision_nor_torch_fidelity_is_loaded():
    assert not {"torchvision", "torch_fidelity"} & set(sys.modules)
