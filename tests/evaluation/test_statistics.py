"""Intervals against SciPy, loops and planted effects."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from dofsuite.evaluation.statistics import (
    Statistic,
    difference,
    estimate,
    ratio,
    resamples,
    student_cdf,
    student_quantile,
    welch,
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 39, 150])
def test_students_t_is_scipys(freedom):
    for t in (0.0, 0.3, 1.0, 2.5, 12.0):
        assert student_cdf(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), abs=1e-12)
    assert student_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_welchs_difference_is_scipys_where_its_degrees_of_freedom_are_whole():
    first, second = [0.91, 0.95, 0.90], [0.70, 0.75, 0.69]  # equal variances: 4 degrees
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    found = welch(first, second)
    assert found.value == pytest.approx(np.mean(first) - np.mean(second))
    ends = (expected.low, expected.high)
    assert found.interval == pytest.approx(ends, abs=0.02)
    assert found.interval[0] <= expected.low
    assert found.interval[1] >= expected.high
    assert welch([1.0], [1.0, 2.0]).interval is None


def test_a_resample_draws_as_many_clusters_as_there_are():
    drawn = resamples(7, 3)
    assert bool((drawn.sum(dim=1) == 7).all())
    assert float(drawn.mean()) == 1
    assert drawn.var().item() == pytest.approx(6 / 7, rel=0.02)  # of a binomial
    assert torch.equal(drawn, resamples(7, 3))


def test_clusters_are_resampled_not_samples():
    """Ten equal samples a scene: the interval is that of ten scenes, by a loop."""
    scenes = np.random.default_rng(0).normal(size=12)
    found = estimate(ratio((scenes * 10).tolist(), [10.0] * 12))
    draws = np.random.default_rng(1)
    means = [scenes[draws.integers(12, size=12)].mean() for _ in range(20000)]
    tail = stats.norm.cdf(-math.sqrt(12 / 11) * stats.t.ppf(0.975, 11))
    assert found.value == pytest.approx(scenes.mean())
    assert found.interval == pytest.approx(np.quantile(means, [tail, 1 - tail]), abs=0.06)


def test_a_paired_difference_cancels_what_makes_scenes_hard():
    draw = np.random.default_rng(0)
    hard, counts = draw.normal(size=40), [1.0] * 40
    first, second = hard + 0.1 + 0.01 * draw.normal(size=40), hard
    found = difference(ratio(first.tolist(), counts), ratio(second.tolist(), counts))
    assert found.sign == 1
    assert found.interval[1] - found.interval[0] < 0.02
    alone = estimate(ratio(first.tolist(), counts))
    assert alone.interval[1] - alone.interval[0] > 0.4


def test_clusters_without_data_and_values_without_meaning_have_no_interval():
    assert estimate(ratio([1.0], [1.0])).interval is None
    assert estimate(ratio([1.0, 0.0], [1.0, 0.0])).interval is None
    assert estimate(ratio([math.inf, 1.0], [1.0, 1.0])).interval is None
    sums, counts = [1.0, 2.0, 3.0, 4.0, 5.0, 0.0], [1.0] * 5 + [0.0]
    five = estimate(ratio(sums, counts))
    assert five.value == 3
    assert 1 <= five.interval[0] < 2
    assert 4 < five.interval[1] <= 5
    assert estimate(ratio(sums[:4], counts[:4])) == (2.5, None)


def simulated(draw, effect):
    """40 scenes x 4 samples, two methods: skewed errors, hard scenes, some samples uncovered."""
    hard = draw.lognormal(mean=-3.5, sigma=0.6, size=(40, 1))
    gain = draw.normal(effect, 0.006, size=(40, 1))
    base = hard * draw.lognormal(sigma=0.3, size=(40, 4))
    other = base + gain + draw.normal(0, 0.004, size=(40, 4))
    covered = draw.random((40, 4)) < 0.9
    counts = covered.sum(axis=1).astype(float).tolist()
    return [ratio((each * covered).sum(axis=1).tolist(), counts) for each in (other, base)]


def test_a_planted_difference_lies_in_the_interval_in_90_to_99_of_100_benchmarks():
    inside = 0
    for seed in range(100):
        found = difference(*simulated(np.random.default_rng(seed), 0.004), seed=seed)
        inside += found.interval[0] <= 0.004 <= found.interval[1]
    assert 90 <= inside <= 99
    print(f"planted difference inside in {inside} of 100")


def test_a_correlation_of_the_mean_curve_has_an_interval_too():
    levels = torch.tensor([5.0, 10.0, 15.0, 20.0], dtype=torch.float64)
    curves = torch.rand(30, 4, dtype=torch.float64) * 0.2 + 1 / levels

    def correlation(totals):
        return torch.stack([-torch.corrcoef(torch.stack([row, levels]))[0, 1] for row in totals])

    found = estimate(Statistic(curves, correlation))
    assert found.value == pytest.approx(-np.corrcoef(curves.mean(0), levels)[0, 1])
    assert found.interval[0] < found.value < found.interval[1] <= 1
