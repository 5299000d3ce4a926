"""Fixed-sequence testing: a threshold picked on labelled rows, with a promise that survives it.

Thresholds are tested from strict to loose, each with an exact binomial test at the full level, and
the search stops at the first that fails. A promise can only be broken by a threshold that is too
loose and passed all the same; the first such one in the sequence has to do so, and there the test
errs in at most ``1 - confidence`` of the draws.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from skllm_calib.exceptions import NotCertifiableError

__all__ = [
    "N_THRESHOLDS",
    "PrecisionTest",
    "Profile",
    "loosest",
    "not_certifiable",
]

# The strictest threshold has to forgive a stray error or two where labels allow it: with room for
# none, a single unlucky row among the most confident ends the search. Measured on simulated
# classifiers, up to two errors within a third of the rows lost coverage nowhere.
_FORGIVEN_ERRORS = 2
_START_FRACTION = 1 / 3
# With many labels the search starts at this fraction of the rows, not at ever fewer of them.
_SMALLEST_FRACTION = 0.05
# Thresholds tested at most, where the caller has no opinion.
N_THRESHOLDS = 20


class PrecisionTest:
    """The exact binomial test of "accepted rows are right at least this often".

    ``bdtr`` is the binomial distribution function, without the overhead of ``scipy.stats``: plans
    ask for it some hundred times.
    """

    def __init__(self, target_precision: float, confidence: float) -> None:
        self.target = float(target_precision)
        self.confidence = float(confidence)
        # Fewest accepted rows that pass with 0, 1, 2 ... errors.
        self.fewest = _fewest(self.target, self.confidence)

    def passes(self, n_accepted: int, n_errors: int) -> bool:
        """Tell whether the exact test rejects a precision below the target."""
        return bool(bdtr(n_errors, n_accepted, 1 - self.target) <= 1 - self.confidence)

    def start(self, n_rows: int) -> int:
        """Rows accepted by the strictest threshold that is tested on so many labels."""
        roomy = [fewest for fewest in self.fewest if fewest <= n_rows * _START_FRACTION]
        fewest = roomy[-1] if roomy else self.fewest[0]
        return max(fewest, math.ceil(n_rows * _SMALLEST_FRACTION))


@lru_cache(maxsize=256)
def _fewest(target_precision: float, confidence: float) -> tuple[int, ...]:
    """Find the smallest n with P(Binomial(n, 1 - target) <= errors) <= risk: it falls with n."""
    error_rate, risk = 1 - target_precision, 1 - confidence
    found = []
    for errors in range(_FORGIVEN_ERRORS + 1):
        low, high = errors, 2 * errors + 2
        while bdtr(errors, high, error_rate) > risk:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if bdtr(errors, middle, error_rate) > risk:
                low = middle
            else:
                high = middle
        found.append(high)
    return tuple(found)


class Profile:
    """Labelled rows from the most to the least confident."""

    def __init__(self, stated: NDArray[np.float64], wrong: NDArray[np.bool_]) -> None:
        order = np.argsort(-stated, kind="stable")
        self._stated = stated[order]
        self._errors = np.cumsum(wrong[order])
        self.n_rows = int(stated.size)
        # Error rates where a threshold can cut. Surer rows are no worse on average, so the rate of
        # a looser cut bounds that of a strict one, whose few rows say little by themselves.
        self._cuts = np.flatnonzero(np.diff(self._stated, append=-np.inf)) + 1
        rates = self._errors[self._cuts - 1] / self._cuts
        self._rates = np.minimum.accumulate(rates[::-1])[::-1]

    def with_ties(self, n_accepted: int) -> int:
        """Return how many rows are at least as confident as the one of this rank."""
        lowest = self._stated[n_accepted - 1]
        return int(np.searchsorted(-self._stated, -lowest, side="right"))

    def candidates(self, start: int, n_thresholds: int) -> list[int]:
        """Numbers of accepted rows to test, from strict to loose; no label is looked at."""
        if start > self.n_rows:
            return []
        ranks = np.round(np.linspace(start, self.n_rows, n_thresholds)).astype(int)
        return sorted({self.with_ties(int(rank)) for rank in ranks})

    def errors(self, n_accepted: int) -> int:
        """Return how many of the surest rows are wrong."""
        return int(self._errors[n_accepted - 1])

    def expected_rate(self, n_accepted: int) -> float:
        """Error rate to expect among so many of the most confident rows, or fewer."""
        return float(self._rates[np.searchsorted(self._cuts, n_accepted)])

    def threshold(self, n_accepted: int) -> float:
        """Return the probability of the least sure of these rows."""
        return float(self._stated[n_accepted - 1])


def loosest(profile: Profile, test: PrecisionTest, n_thresholds: int = N_THRESHOLDS) -> int | None:
    """Return how many rows the loosest threshold accepts that keeps the promise, or None."""
    best = None
    for n_accepted in profile.candidates(test.start(profile.n_rows), n_thresholds):
        if not test.passes(n_accepted, profile.errors(n_accepted)):
            break
        best = n_accepted
    return best


def not_certifiable(
    profile: Profile, test: PrecisionTest, n_labels: int | None = None
) -> NotCertifiableError:
    """Say why the promise cannot be given, and how many further labels it would take.

    `n_labels` is the number of labels in all where the profile holds only some of their rows.
    """
    n_labels = profile.n_rows if n_labels is None else n_labels
    goal = f"a precision of {test.target:.4g} with confidence {test.confidence:.4g}"
    start = test.start(profile.n_rows)
    if start > profile.n_rows:
        reason = f"{goal} needs at least {start} accepted rows without an error"
        if profile.n_rows < n_labels:
            reason += f", and only {profile.n_rows} are eligible"
    else:
        tested = profile.with_ties(start)
        reason = (
            f"{profile.errors(tested)} of the {tested} most confident rows are wrong, too many "
            f"for {goal}"
        )
    head = f"not certifiable with these {n_labels} labels: {reason}"
    if not profile.n_rows:
        return NotCertifiableError(f"{head}; more labels like these would not change that.")
    needed = _labels_needed(profile, test)
    if needed is None:
        best = 1 - profile.expected_rate(_trusted_rows(profile))
        return NotCertifiableError(
            f"{head}; more labels would not help: the best precision that these show is "
            f"{best:.1%}. Lower the target or improve the model."
        )
    # The plan is rounder than the test that has just failed: it may say none.
    more = max(1, needed - profile.n_rows)
    more = math.ceil(more * n_labels / profile.n_rows)
    return NotCertifiableError(
        f"{head}; about {more} more needed if they look like the present ones.", more
    )


def _trusted_rows(profile: Profile) -> int:
    """Fewest top rows whose error rate is taken at its word when planning."""
    smallest = math.ceil(profile.n_rows * _SMALLEST_FRACTION)
    return profile.with_ties(min(profile.n_rows, max(20, smallest)))


def _labels_needed(profile: Profile, test: PrecisionTest) -> int | None:
    """Fewest labels with which the first test would pass, if new rows err at the observed rates."""
    trusted = _trusted_rows(profile)

    def passes(n_labels: int) -> bool:
        # The strictest threshold of a larger sample accepts a smaller fraction: look up the errors
        # of that fraction among the rows at hand, and round the expected number of errors up.
        start = test.start(n_labels)
        if start > n_labels:
            return False
        seen = math.ceil(start * profile.n_rows / n_labels - 1e-9)
        seen = profile.with_ties(max(trusted, seen))
        n_accepted = max(start, seen * n_labels // profile.n_rows)
        rate = profile.expected_rate(seen)
        # The rows at hand keep their errors, also where these are more than the rate has it.
        kept = profile.errors(seen) + round(rate * (n_accepted - seen))
        return test.passes(n_accepted, max(kept, math.ceil(rate * n_accepted - 1e-9)))

    low = high = max(profile.n_rows, test.fewest[0] - 1)
    while not passes(high):
        if high > 1_000 * (profile.n_rows + test.fewest[0]):
            return None  # no better than the target where the model is most sure of itself
        low, high = high, math.ceil(high * 1.02) + (high == low)
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle
    return high
