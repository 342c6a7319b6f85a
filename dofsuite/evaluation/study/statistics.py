"""Statistics of votes: exact test, Holm, bootstrap over participants, Bradley-Terry."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

NUM_RESAMPLES = 2000
MAX_STEPS, TOLERANCE = 10_000, 1e-12


def binomial_p(successes: int, trials: int) -> float:
    """Return the two-sided exact p-value of a count under the rate 1/2.

    That distribution is symmetric: p = min(1, 2 P(X >= max(k, n - k))).
    """
    larger = max(successes, trials - successes)
    tail = sum(math.comb(trials, k) for k in range(larger, trials + 1))
    return min(1.0, 2 * tail / 2**trials)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979): max_{j <= i} min(1, (m - j) p_(j))."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def bootstrap_intervals(
    wins: Float[Tensor, "participants baselines"],
    votes: Float[Tensor, "participants baselines"],
    seed: int = 0,
) -> list[tuple[float, float] | None]:
    """Return 95 % percentile intervals of the rates wins / votes over resampled participants.

    Votes of one person depend on each other, so persons are drawn with replacement, not votes.

    Returns:
        One interval a baseline; None with fewer than two participants or without a vote.
    """
    # Resamples: how often each participant is in it, [resamples, participants]
    people = len(wins)
    if people < 2:
        return [None] * wins.shape[1]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(people, (NUM_RESAMPLES, people), generator=generator)
    times = torch.nn.functional.one_hot(drawn, people).sum(1).double()

    # Rates of the resamples; without a vote a rate is NaN
    rates = (times @ wins.double()) / (times @ votes.double())
    ends = torch.nanquantile(rates, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    return [None if math.isnan(low) else (low, high) for low, high in ends.T.tolist()]


def bradley_terry(wins: Float[Tensor, "m m"]) -> Float[Tensor, "m"]:
    """Return maximum-likelihood strengths s, P(i beats j) = s_i / (s_i + s_j), with s_0 = 1.

    By the MM algorithm (Hunter 2004, doi 10.1214/aos/1079120141, eq. 3):
    s_i <- W_i / sum_j n_ij / (s_i + s_j).

    Args:
        wins: [i, j] is how often i was preferred to j; each item needs a win and a loss.

    Raises:
        ValueError: The iteration does not converge: an item never won or never lost.
    """
    wins = wins.double()
    pairs, strengths = wins + wins.T, torch.ones(len(wins), dtype=torch.float64)
    for _ in range(MAX_STEPS):
        sums = strengths[:, None] + strengths[None, :]
        updated = wins.sum(1) / (pairs / sums).sum(1)
        updated = updated / updated[0]
        if bool(((updated - strengths).abs() <= TOLERANCE * updated).all()):
            return updated
        strengths = updated
    raise ValueError("Bradley-Terry: no convergence; an item never won or never lost")


def detectable_rate(trials: int, level: float, power: float) -> float | None:
    """Return the smallest rate above 1/2, in whole percent, that the exact test finds.

    Args:
        trials: Number of votes.
        level: p-values up to it count as found.
        power: Share of studies in which it is to be found.

    Returns:
        The rate; None where even a certain preference is not found.
    """
    # Smallest count that is found: the two-sided p of k is twice the tail from k on
    critical, tail = trials + 1, 0
    for k in range(trials, trials // 2, -1):
        tail += math.comb(trials, k)
        if 2 * tail / 2**trials > level:
            break
        critical = k
    if critical > trials:
        return None

    # Smallest rate with the power
    rates = (percent / 100 for percent in range(51, 100))
    return next((rate for rate in rates if upper_tail(critical, trials, rate) >= power), 1.0)


def upper_tail(successes: int, trials: int, rate: float) -> float:
    """Return P(X >= successes) of the binomial distribution, `rate` in (0, 1)."""

    def log_probability(k: int) -> float:
        log_choices = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        return log_choices + k * math.log(rate) + (trials - k) * math.log1p(-rate)

    return sum(math.exp(log_probability(k)) for k in range(successes, trials + 1))
