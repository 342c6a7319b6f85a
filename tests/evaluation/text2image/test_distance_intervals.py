"""KID and FID as statistics: against torchmetrics, against loops over resamples, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.kid import poly_mmd

from dofsuite.evaluation.statistics import difference, estimate
from dofsuite.evaluation.text2image.distance_intervals import fid_statistic, kid_statistic
from dofsuite.evaluation.text2image.features import frechet_distance


def features(count: int, seed: int, size: int = 4, shift: float = 0.0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=draw, dtype=torch.float64) + shift


def of_all(statistic) -> float:
    return float(statistic.value(statistic.totals.sum(0, keepdim=True)))


def test_without_resampling_they_are_torchmetrics_own() -> None:
    real, fake = features(30, 0), features(30, 1, shift=0.3)  # torchmetrics' KID wants as many
    prompts = fake.split([1, 5, 4, 12, 8])
    kid, fid = kid_statistic(real, prompts), fid_statistic(real, prompts)
    assert fid is not None
    assert of_all(kid) == pytest.approx(float(poly_mmd(real, fake)), rel=1e-9)
    assert of_all(fid) == pytest.approx(frechet_distance(real, fake), rel=1e-9)


def test_a_resample_is_that_of_a_loop_over_its_images() -> None:
    real, prompts = features(9, 0), features(7, 1, shift=0.3).split([3, 2, 2])
    times = [2, 0, 1]
    # (image, its number) as often as its prompt is drawn
    numbers = [range(3), range(3, 5), range(5, 7)]
    drawn = [
        (x.numpy(), number)
        for prompt, own, count in zip(prompts, numbers, times, strict=True)
        for _ in range(count)
        for x, number in zip(prompt, own, strict=True)
    ]
    y = real.numpy()

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 4 + 1) ** 3

    own = [k(a, b) for a, i in drawn for b, j in drawn if i != j]
    among = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    between = [k(a, b) for a, _ in drawn for b in y]
    weights = torch.tensor([times], dtype=torch.float64)
    kid = kid_statistic(real, prompts)
    expected = np.mean(own) + np.mean(among) - 2 * np.mean(between)
    assert float(kid.value(weights @ kid.totals)) == pytest.approx(expected, rel=1e-9)
    # FID by SciPy's matrix root
    fid = fid_statistic(real, prompts)
    assert fid is not None
    x = np.stack([a for a, _ in drawn])
    root = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    gap = ((x.mean(0) - y.mean(0)) ** 2).sum()
    expected = gap + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert float(fid.value(weights @ fid.totals)) == pytest.approx(expected, rel=1e-4)


def test_intervals_hold_the_true_kid_and_a_planted_difference() -> None:
    """Of 40 sets of 60 prompts; KID's expectation by torchmetrics, of a large sample."""
    real = features(1500, 0)
    truth = [float(poly_mmd(real, features(1500, 7, shift=s))) for s in (0.2, 0.4)]
    inside = [0, 0]
    for number in range(40):
        first, second = (
            kid_statistic(real, features(60, 10 + 2 * number + i, shift=s).split(1))
            for i, s in enumerate((0.2, 0.4))
        )
        for i, (found, expected) in enumerate(
            ((estimate(first), truth[0]), (difference(second, first), truth[1] - truth[0]))
        ):
            assert found.interval is not None
            inside[i] += found.interval[0] <= expected <= found.interval[1]
    print(f"inside in {inside} of 40")
    assert min(inside) >= 34


def test_too_many_features_have_no_interval_of_fid() -> None:
    real = features(80, 0, size=65)
    assert fid_statistic(real, [real]) is None
