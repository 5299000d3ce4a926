"""What a sample promises of rows to come, where no threshold was picked on its labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, betabinom

__all__ = [
    "mean_interval",
    "precision_lower_bound",
    "rank_for_count",
    "rank_for_rate",
    "rate_upper_bound",
]

_N_DRAWS = 4000


def precision_lower_bound(n_accepted: int, n_errors: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson lower bound of the precision, in [0, 1)."""
    if n_accepted == n_errors:
        return 0.0
    return float(beta.ppf(1 - confidence, n_accepted - n_errors, n_errors + 1))


def rate_upper_bound(n_seen: int, n_rows: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a rate seen `n_seen` times, in (0, 1]."""
    if n_seen == n_rows:
        return 1.0
    return float(beta.ppf(confidence, n_seen + 1, n_rows - n_seen))


def rank_for_rate(n_rows: int, rate: float, confidence: float) -> int:
    """Return the largest rank whose row has at most this fraction of the population below it.

    The fraction of the population below the k-th smallest of n rows follows Beta(k, n + 1 - k)
    [1]_, whatever the population; with ties it is smaller. Zero if no rank is safe.

    References
    ----------
    .. [1] S. S. Wilks (1941). Determination of Sample Sizes for Setting Tolerance Limits. Annals of
       Mathematical Statistics 12.
    """
    return _largest(n_rows, lambda k: beta.cdf(rate, k, n_rows + 1 - k) >= confidence)


def rank_for_count(n_rows: int, most: int, n_new: int, confidence: float) -> int:
    """Return the largest rank with at most `most` of `n_new` further rows below it.

    Mixed over the fraction above, the number of further rows is beta-binomial. Zero if no rank is
    safe.
    """
    numbers = np.arange(most + 1)

    def safe(k: int) -> bool:
        chances = betabinom.logpmf(numbers, n_new, k, n_rows + 1 - k)
        return bool(np.exp(chances).sum() >= confidence)

    return _largest(n_rows, safe)


def _largest(n_rows: int, safe: Callable[[int], bool]) -> int:
    low, high = 0, n_rows + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if safe(middle) else (low, middle)
    return low


def mean_interval(
    values: NDArray[np.float64], lowest: float, highest: float, confidence: float, seed: int
) -> tuple[float, float]:
    """Bound the mean of a population from a sample, without a model of its distribution.

    Weights are drawn as in the Bayesian bootstrap, with one more row at the worst value possible
    on either side [1]_ [2]_. A plain bootstrap never sees a costly error that the sample lacks;
    this row stands for it. With two possible values the bounds are those of Clopper and Pearson.

    References
    ----------
    .. [1] N. Gaffke (2005). Three Test Statistics for a Nonparametric One-Sided Hypothesis on the
       Mean of a Nonnegative Variable. Mathematical Methods of Statistics 14.
    .. [2] E. Learned-Miller, P. S. Thomas (2019). A New Confidence Interval for the Mean of a
       Bounded Random Variable. arXiv:1905.06208.
    """
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    weight = rng.standard_gamma(counts, size=(_N_DRAWS, distinct.size))
    extra = rng.standard_gamma(1.0, size=_N_DRAWS)
    total, mass = weight @ distinct, weight.sum(axis=1) + extra
    risk = (1 - confidence) / 2
    low = np.quantile((total + extra * lowest) / mass, risk)
    high = np.quantile((total + extra * highest) / mass, 1 - risk)
    # Rounding must not put the bounds outside of what is possible.
    return max(float(low), lowest), min(float(high), highest)
