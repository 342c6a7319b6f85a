"""Interval, test, correction, bootstrap and strengths, against SciPy and by hand."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from dofsuite.evaluation.statistics import wilson_interval
from dofsuite.evaluation.study.statistics import (
    binomial_p,
    bootstrap_intervals,
    bradley_terry,
    detectable_rate,
    holm,
)

COUNTS = [(0, 1), (1, 1), (0, 20), (3, 7), (42, 83), (69, 83), (83, 83), (250, 500), (1900, 2000)]


@pytest.mark.parametrize(("successes", "trials"), COUNTS)
def test_interval_and_p_value_are_scipy_s(successes, trials):
    test = stats.binomtest(successes, trials)
    assert binomial_p(successes, trials) == pytest.approx(test.pvalue, rel=1e-9, abs=1e-300)
    expected = test.proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_the_paper_s_83_percent_of_83_votes():
    assert wilson_interval(0.83 * 83, 83) == pytest.approx((0.735, 0.896), abs=5e-4)


def test_holm_multiplies_by_the_rank_and_never_falls():
    # By hand: .01 x 4, .02 x 3, then .0225 x 2 = .045 and .04 stay at the largest before, .06
    assert holm([0.04, 0.01, 0.0225, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_strengths_are_the_maximum_of_the_likelihood():
    generator = np.random.default_rng(0)
    wins = generator.integers(1, 20, (5, 5)).astype(float)
    np.fill_diagonal(wins, 0)

    def negative(logs):
        scores = np.concatenate([[0.0], logs])
        return (wins * np.logaddexp(0, scores[None, :] - scores[:, None])).sum()

    expected = optimize.minimize(negative, np.zeros(4), tol=1e-12).x
    found = bradley_terry(torch.from_numpy(wins)).log().numpy()
    np.testing.assert_allclose(found, [0, *expected], atol=1e-5)


def test_strengths_without_a_maximum_are_refused():
    with pytest.raises(ValueError, match="never won"):
        bradley_terry(torch.tensor([[0.0, 5.0], [0.0, 0.0]]))


def test_the_bootstrap_draws_persons():
    generator = np.random.default_rng(1)
    votes = generator.integers(2, 5, (25, 1)).astype(float)
    # Persons differ: each prefers ours always or never
    wins = votes * (generator.random((25, 1)) < 0.7)
    expected = stats.bootstrap(
        (wins[:, 0], votes[:, 0]),
        lambda w, v, axis: w.sum(axis) / v.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    (found,) = bootstrap_intervals(torch.from_numpy(wins), torch.from_numpy(votes))
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)
    low, high = wilson_interval(wins.sum(), votes.sum())
    assert found[1] - found[0] > 1.3 * (high - low)


def test_one_person_or_no_vote_has_no_bootstrap_interval():
    assert bootstrap_intervals(torch.ones(1, 2), torch.ones(1, 2)) == [None, None]
    votes = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert bootstrap_intervals(votes / 2, votes) == [(0.5, 0.5), None]


@pytest.mark.parametrize("trials", [20, 83, 1500])
def test_the_detectable_rate_has_the_power(trials):
    rate = detectable_rate(trials, 0.05 / 6, 0.8)
    critical = next(k for k in range(trials) if stats.binom.sf(k - 1, trials, 0.5) <= 0.05 / 12)
    power = stats.binom.sf(critical - 1, trials, [rate - 0.01, rate])
    assert power[0] < 0.8 <= power[1]


def test_three_votes_find_nothing():
    assert detectable_rate(3, 0.05, 0.8) is None
