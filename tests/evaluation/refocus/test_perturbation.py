"""Imperfect depth as Table 6 describes it, counted with NumPy."""

import numpy as np
import pytest
import torch

from dofsuite.evaluation.refocus.perturbation import perturb

DISPARITY = torch.rand(1, 1, 200, 300, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05


def test_zero_and_given_are_what_they_say():
    assert perturb(DISPARITY, "given", 0) is DISPARITY
    assert perturb(DISPARITY, "zero", 0).abs().max() == 0


def test_thirty_percent_of_the_pixels_are_masked_each_by_itself():
    masked = perturb(DISPARITY, "mask", 3).numpy()
    gone = masked == 0
    assert gone.mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(masked[~gone], DISPARITY.numpy()[~gone])
    neighbours = (gone[..., 1:] & gone[..., :-1]).mean()
    assert neighbours == pytest.approx(0.09, abs=0.01)


def test_one_rectangle_is_cropped():
    shares = []
    for seed in range(200):
        rows, columns = np.nonzero((perturb(DISPARITY, "crop", seed) == 0).numpy()[0, 0])
        size = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert len(rows) == size
        shares.append(size / DISPARITY.numel())
    assert np.mean(shares) == pytest.approx(1 / 9, abs=0.03)


def test_noise_of_deviation_one_is_added_and_clamped():
    middle = torch.full((1, 1, 300, 300), 0.5)
    noisy = perturb(middle, "noise", 1).numpy()
    assert noisy.min() == 0
    assert noisy.max() == 1
    assert (noisy == 1).mean() == pytest.approx(0.3085, abs=0.01)  # P(n > 0.5)
    inside = (noisy > 0.25) & (noisy < 0.75)
    assert inside.mean() == pytest.approx(0.1974, abs=0.01)  # P(|n| < 0.25)


@pytest.mark.parametrize("kind", ["mask", "crop", "noise"])
def test_it_is_a_function_of_its_seed(kind):
    assert torch.equal(perturb(DISPARITY, kind, 5), perturb(DISPARITY, kind, 5))
    assert not torch.equal(perturb(DISPARITY, kind, 5), perturb(DISPARITY, kind, 6))
