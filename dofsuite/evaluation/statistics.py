"""Intervals of the tables: bootstrap over scenes, paired differences, Wilson, Student, Welch.

Samples of one scene depend on each other, so scenes are drawn with replacement, not samples. A
score is a function of totals over scenes (a mean: sum and count; LVCorr: the summed curve), so all
resamples of a score are one matrix product. Two methods are compared on the same resamples of the
same scenes: what makes a scene hard for both cancels.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# Of a two-sided 95 % interval of the normal distribution.
Z_95 = 1.959963984540054
NUM_RESAMPLES = 4000
# Fewer have no interval: the resamples of four scenes span their mean in 88 % of cases at best.
MIN_CLUSTERS = 5
# Share of the resamples that must have a value (a scene alone may have none).
LEAST_SHARE = 0.5


# A score of clusters (scenes, prompts).
class Statistic(NamedTuple):
    # What each cluster adds, [clusters, k].
    totals: Tensor
    # Sums over clusters [r, k] -> the score of each row [r].
    value: Callable[[Tensor], Tensor]


# A number with its 95 % interval; None where there is none.
class Estimate(NamedTuple):
    value: float
    interval: tuple[float, float] | None

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies above or below 0, else 0."""
        low, high = self.interval or (0.0, 0.0)
        return int(low > 0) - int(high < 0)


def ratio(sums: Sequence[float | int], counts: Sequence[float | int]) -> Statistic:
    """Return the statistic sum(sums) / sum(counts): the mean of the samples of all clusters."""
    columns = [torch.as_tensor(each, dtype=torch.float64) for each in (sums, counts)]
    return Statistic(torch.stack(columns, dim=1), lambda totals: totals[:, 0] / totals[:, 1])


def estimate(statistic: Statistic, seed: int = 0) -> Estimate:
    """Return a score and its 95 % bootstrap interval over clusters.

    The ends are the quantiles of the expanded percentile interval (Hesterberg 2015, doi
    10.1080/00031305.2015.1089789): Phi(-+ sqrt(n / (n - 1)) t_.975,n-1) for n clusters, because the
    plain 2.5 and 97.5 % are too narrow for few. At most as wide as the resamples.
    """
    return _estimate(statistic, None, seed)


def difference(first: Statistic, second: Statistic, seed: int = 0) -> Estimate:
    """Return first minus second, of the same clusters, and its interval on the same resamples."""
    return _estimate(first, second, seed)


def _estimate(first: Statistic, second: Statistic | None, seed: int) -> Estimate:
    # The score of all clusters
    clusters = len(first.totals)
    values = []
    for weights in (torch.ones(1, clusters, dtype=torch.float64), resamples(clusters, seed)):
        value = first.value(weights @ first.totals)
        values.append(value if second is None else value - second.value(weights @ second.totals))
    point, drawn = float(values[0]), values[1][values[1].isfinite()]

    # Its interval, of the clusters that have data
    data = first.totals if second is None else torch.cat([first.totals, second.totals], dim=1)
    used = int((data != 0).any(dim=1).sum())
    if not math.isfinite(point) or used < MIN_CLUSTERS or len(drawn) < LEAST_SHARE * NUM_RESAMPLES:
        return Estimate(point, None)
    tail = normal_cdf(-math.sqrt(used / (used - 1)) * student_quantile(0.975, used - 1))
    ends = torch.quantile(drawn, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Estimate(point, (ends[0], ends[1]))


@lru_cache(maxsize=4)
def resamples(clusters: int, seed: int) -> Float[Tensor, "r clusters"]:
    """Return how often each cluster is in each of `NUM_RESAMPLES` draws with replacement."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(clusters, (NUM_RESAMPLES, clusters), generator=generator)
    times = torch.zeros(NUM_RESAMPLES, clusters, dtype=torch.float64)
    return times.scatter_add_(1, drawn, torch.ones_like(times))


def wilson_interval(
    successes: float | int, trials: float | int, z: float = Z_95
) -> tuple[float, float]:
    """Return the Wilson score interval of a rate; 95 % by default.

    With n trials and p = successes / n:
    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) (Wilson 1927, doi
    10.1080/01621459.1927.10502953).
    """
    rate = successes / trials
    center = rate + z**2 / (2 * trials)
    margin = z * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return (center - margin) / scale, (center + margin) / scale


def welch(first: Sequence[float | int], second: Sequence[float | int]) -> Estimate:
    """Return mean(first) - mean(second) and its 95 % interval by Welch's t (Welch 1947).

    Its degrees of freedom are rounded down, which widens the interval. No interval where both have
    one value or none varies.
    """
    gap = math.fsum(first) / len(first) - math.fsum(second) / len(second)
    squares = [_variance_of_mean(values) for values in (first, second)]
    if min(len(first), len(second)) < 2 or sum(squares) == 0:
        return Estimate(gap, None)
    freedom = sum(squares) ** 2 / sum(
        square**2 / (len(values) - 1)
        for square, values in zip(squares, (first, second), strict=True)
    )
    margin = student_quantile(0.975, max(1, math.floor(freedom))) * math.sqrt(sum(squares))
    return Estimate(gap, (gap - margin, gap + margin))


def _variance_of_mean(values: Sequence[float | int]) -> float:
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return squares / max(1, len(values) - 1) / len(values)


def normal_cdf(z: float | int) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


@lru_cache(maxsize=256)
def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t with `freedom` degrees of freedom, above the median."""
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(80):  # bisection
        middle = (low + high) / 2
        if student_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def student_cdf(t: float | int, freedom: int) -> float:
    """Return P(T <= t), t >= 0, by the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    theta = math.atan(t / math.sqrt(freedom))
    cosine, is_odd = math.cos(theta), freedom % 2
    # Odd: cos, 2/3 cos^3, ...; even: 1, 1/2 cos^2, ...
    term, total = (cosine if is_odd else 1.0), 0.0
    for power in range(2 + is_odd, freedom + 1, 2):
        total += term
        term *= (power - 1) / power * cosine**2
    inside = math.sin(theta) * total
    if is_odd:
        inside = 2 / math.pi * (theta + inside)
    return 0.5 + 0.5 * inside
