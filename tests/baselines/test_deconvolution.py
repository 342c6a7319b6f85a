"""Deconvolution: the kernel by its formula, the minimum by SciPy, and known blurs found on
photographs.
"""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from scipy.sparse.linalg import LinearOperator, cg

from dofsuite.baselines.deconvolution import Deconvolution, centered_disc, deconvolve
from dofsuite.data.synthetic.photographs import photograph


def disc(radius, reach):
    """BokehMe's kernel, sum 1, by its formula."""
    steps = np.arange(-reach, reach + 1)
    distance = np.hypot(steps[:, None], steps)
    square = np.maximum(np.abs(steps)[:, None], np.abs(steps)) <= int(radius) + 1
    kernel = (0.5 + 0.5 * np.tanh(4 * (radius - distance))) * square
    return kernel / kernel.sum()


def square_light(name):
    """A photograph's middle, reduced to 96 px, as light [96, 96, 3]."""
    source = photograph(name)
    side = min(source.size)
    left, top = (source.width - side) // 2, (source.height - side) // 2
    square = source.crop((left, top, left + side, top + side)).resize((96, 96))
    return (np.asarray(square.convert("RGB")) / 255) ** 2.2


def defocused(light, radius):
    kernel = disc(radius, int(radius) + 2)
    blurred = np.stack([convolve(light[..., c], kernel, mode="mirror") for c in range(3)], axis=-1)
    return np.round(blurred.clip(0, 1) ** (1 / 2.2) * 255) / 255


def as_tensor(values):
    return torch.from_numpy(values).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("radius", [0.7, 2.0, 3.4])
def test_the_kernel_is_bokehmes(radius):
    found = np.roll(centered_disc(radius, 20, 24).numpy(), (10, 12), axis=(0, 1))[4:17, 6:19]
    np.testing.assert_allclose(found, disc(radius, 6), atol=1e-12)


def test_it_is_the_minimum_that_conjugate_gradients_find():
    """On the mirrored frame: (K'K + w D'D) f = K'g, K and D by SciPy with wrap-around."""
    light = square_light("coffee")[:24, :24, 0]
    radius, weight = 2.0, 0.03
    margin = int(2 * radius) + 2
    framed = np.pad(light, margin, mode="reflect")
    kernel = disc(radius, 4)

    def steep(f):
        return sum(2 * f - np.roll(f, 1, axis) - np.roll(f, -1, axis) for axis in (0, 1))

    def normal(f):
        f = f.reshape(framed.shape)
        return (
            convolve(convolve(f, kernel, mode="wrap"), kernel, mode="wrap") + weight * steep(f)
        ).ravel()

    operator = LinearOperator((framed.size, framed.size), matvec=normal, dtype=np.float64)
    solution, failed = cg(
        operator, convolve(framed, kernel, mode="wrap").ravel(), rtol=1e-10, maxiter=4000
    )
    assert failed == 0
    expected = solution.reshape(framed.shape)[margin:-margin, margin:-margin]
    found = deconvolve(torch.from_numpy(light).expand(1, 3, 24, 24), radius, weight)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("name", ["coffee", "astronaut", "chelsea"])
def test_the_radius_of_a_uniform_blur_is_found(name):
    light, everywhere = square_light(name), torch.zeros(1, 1, 96, 96)
    found = []
    for radius in (2, 3, 5):
        defocused_image = as_tensor(defocused(light, radius)) ** 2.2
        found.append(Deconvolution().radii_px(defocused_image, everywhere)[1][0])
    np.testing.assert_allclose(found, [2, 3, 5], atol=1.3)
    assert found == sorted(found)


@pytest.mark.parametrize("name", ["astronaut", "chelsea"])
def test_a_defocused_photograph_becomes_nearer_to_the_sharp_one(name):
    light = square_light(name)
    for radius in (2, 3):
        defocused_image = as_tensor(defocused(light, radius))
        sharp = Deconvolution().sharpen(defocused_image, torch.zeros(1, 1, 96, 96), 2.2)
        truth = as_tensor(light ** (1 / 2.2))
        assert (sharp - truth).abs().mean() < 0.9 * (defocused_image - truth).abs().mean()


def test_layers_of_different_blur_get_different_radii():
    light = square_light("astronaut")
    left, right = defocused(light, 1.0), defocused(light, 4.0)
    defocused_image = as_tensor(np.concatenate([left[:, :48], right[:, 48:]], axis=1)) ** 2.2
    disparity = (torch.arange(96) >= 48).float().expand(1, 1, 96, 96)
    weights, radii = Deconvolution().radii_px(defocused_image, disparity)
    assert radii[-1] > radii[0] + 1.5
    assert radii[1:-1] == [0.0] * 4
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(1, 96, 96))
