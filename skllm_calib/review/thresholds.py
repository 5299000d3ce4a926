"""Which predictions may pass without a human: thresholds with a promise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom

from skllm_calib.exceptions import NotCertifiableError
from skllm_calib.metrics._validation import check_input

__all__ = ["AcceptThreshold", "accept_threshold"]

# The strictest threshold has to forgive a stray error or two where labels allow it: with room for
# none, a single unlucky row among the most confident ends the search. Measured on simulated
# classifiers, up to two errors within a third of the rows lost coverage nowhere.
_FORGIVEN_ERRORS = 2
_START_SHARE = 1 / 3
# With many labels the search starts at this share of the rows, not at ever fewer of them.
_SMALLEST_SHARE = 0.05


@dataclass(frozen=True, repr=False)
class AcceptThreshold:
    """A threshold on the top-label confidence, and what the labels say about it.

    Attributes
    ----------
    threshold : float
        Accept a row when its largest probability is at least this.
    coverage : float
        Share of the labelled rows that are accepted, in [0, 1].
    n_accepted, n_errors, n_labels : int
        Accepted rows, wrong ones among them, and all labelled rows.
    precision_lower_bound : float
        Clopper-Pearson lower bound of the precision of accepted rows at this threshold, in [0, 1].
        The search protects the promise of `target_precision` only: where the bound happens to lie
        higher, that surplus is not covered by it.
    target_precision, confidence : float
        The promise: accepted rows are right at least this often, with this confidence.
    """

    threshold: float
    coverage: float
    n_accepted: int
    n_errors: int
    n_labels: int
    precision_lower_bound: float
    target_precision: float
    confidence: float

    def __repr__(self) -> str:
        return (
            f"<AcceptThreshold: confidence >= {self.threshold:.4g} accepts {self.n_accepted} of "
            f"{self.n_labels} rows ({self.coverage:.1%}), {self.n_errors} wrong; precision >= "
            f"{self.target_precision:.4g} with {self.confidence:.4g} confidence>"
        )


def accept_threshold(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    target_precision: float = 0.99,
    confidence: float = 0.95,
    n_thresholds: int = 20,
    labels: ArrayLike | None = None,
    pos_label: object = None,
) -> AcceptThreshold:
    """Find the loosest confidence threshold whose accepted rows keep a promised precision.

    Thresholds are tested from strict to loose with exact binomial tests, and the search stops at
    the first one that fails (fixed-sequence testing [1]_ [2]_). So all the tests together break
    the promise in at most ``1 - confidence`` of the draws of labelled rows, although the threshold
    is picked on the same rows. The thresholds are quantiles of the confidences and do not depend
    on the labels.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels of rows drawn like the future ones, and not used to train the model. Rows that
        also fitted a calibrator of many parameters make the promise optimistic; keep some apart.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes; 1-D holds the probability
        of `pos_label`.
    target_precision : float in (0, 1), default=0.99
        Wanted share of correct labels among accepted rows.
    confidence : float in (0, 1), default=0.95
        Confidence of the promise.
    n_thresholds : int, default=20
        Number of thresholds tested at most.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.

    Returns
    -------
    result : AcceptThreshold
        The threshold, its coverage and its evidence. All rows with a confidence of at least the
        threshold are accepted, ties included.

    Raises
    ------
    NotCertifiableError
        If even the strictest threshold cannot be certified. Its ``n_more`` tells about how many
        further labels are needed if they look like the present ones, or is None when the model is
        not good enough for the target, so that more labels would not help.
    ValueError
        If an input does not fit; the message names the row or the value.

    Notes
    -----
    A precision of 99 % with 95 % confidence takes 299 accepted rows without an error, 473 with one
    and 628 with two; 95 % takes 59, 93 and 124.

    References
    ----------
    .. [1] A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan, L. Lei (2021). Learn then
       Test: Calibrating Predictive Algorithms to Achieve Risk Control. arXiv:2110.01052.
    .. [2] C. J. Clopper, E. S. Pearson (1934). The use of confidence or fiducial limits
       illustrated in the case of the binomial. Biometrika 26.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.review import accept_threshold
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(0.4, 0.4, size=2000)
    >>> y = rng.random(2000) < p
    >>> accept_threshold(y, p, target_precision=0.95)
    <AcceptThreshold: confidence >= ... accepts ... of 2000 rows (...%), ... wrong;
    precision >= 0.95 with 0.95 confidence>
    """
    for name, value in (("target_precision", target_precision), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value!r}.")
    if not isinstance(n_thresholds, Integral) or n_thresholds < 1:
        raise ValueError(f"n_thresholds must be an integer of at least 1, got {n_thresholds!r}.")
    checked = check_input(y_true, y_proba, labels=labels, pos_label=pos_label)
    stated = checked.proba.max(axis=1)
    wrong = checked.proba.argmax(axis=1) != checked.codes
    promise = _Promise(target_precision, confidence)
    profile = _Profile(stated, wrong)
    best: tuple[int, int] | None = None
    for n_accepted in profile.candidates(promise.start(profile.n_rows), n_thresholds):
        n_errors = profile.errors(n_accepted)
        if not promise.holds(n_accepted, n_errors):
            break
        best = n_accepted, n_errors
    if best is None:
        raise _not_certifiable(profile, promise)
    n_accepted, n_errors = best
    return AcceptThreshold(
        threshold=profile.threshold(n_accepted),
        coverage=n_accepted / profile.n_rows,
        n_accepted=n_accepted,
        n_errors=n_errors,
        n_labels=profile.n_rows,
        precision_lower_bound=float(beta.ppf(1 - confidence, n_accepted - n_errors, n_errors + 1)),
        target_precision=float(target_precision),
        confidence=float(confidence),
    )


class _Promise:
    """The binomial test of "accepted rows are right at least this often"."""

    def __init__(self, target_precision: float, confidence: float) -> None:
        self.target = float(target_precision)
        self.confidence = float(confidence)
        error_rate, risk = 1 - self.target, 1 - self.confidence
        # Fewest accepted rows that pass with 0, 1, 2 ... errors: the smallest n with
        # P(Binomial(n, error_rate) <= errors) <= risk, by bisection as it falls with n.
        self.fewest: list[int] = []
        for errors in range(_FORGIVEN_ERRORS + 1):
            low, high = errors, 2 * errors + 2
            while binom.cdf(errors, high, error_rate) > risk:
                low, high = high, 2 * high
            while high - low > 1:
                middle = (low + high) // 2
                if binom.cdf(errors, middle, error_rate) > risk:
                    low = middle
                else:
                    high = middle
            self.fewest.append(high)

    def holds(self, n_accepted: int, n_errors: int) -> bool:
        return bool(binom.cdf(n_errors, n_accepted, 1 - self.target) <= 1 - self.confidence)

    def start(self, n_rows: int) -> int:
        """Rows accepted by the strictest threshold that is tested on so many labels."""
        roomy = [fewest for fewest in self.fewest if fewest <= n_rows * _START_SHARE]
        fewest = roomy[-1] if roomy else self.fewest[0]
        return max(fewest, math.ceil(n_rows * _SMALLEST_SHARE))


class _Profile:
    """Labelled rows from the most to the least confident."""

    def __init__(self, stated: NDArray[np.float64], wrong: NDArray[np.bool_]) -> None:
        order = np.argsort(-stated, kind="stable")
        self._stated = stated[order]
        self._errors = np.cumsum(wrong[order])
        self.n_rows = int(stated.size)
        # Error rates where a threshold can cut. Surer rows are no worse on average, so the rate of
        # a looser cut bounds that of a strict one, whose few rows say little by themselves.
        self._cuts = np.append(np.flatnonzero(np.diff(self._stated)), self.n_rows - 1) + 1
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
        return int(self._errors[n_accepted - 1])

    def expected_rate(self, n_accepted: int) -> float:
        """Error rate to expect among so many of the most confident rows, or fewer."""
        return float(self._rates[np.searchsorted(self._cuts, n_accepted)])

    def threshold(self, n_accepted: int) -> float:
        return float(self._stated[n_accepted - 1])


def _not_certifiable(profile: _Profile, promise: _Promise) -> NotCertifiableError:
    have = profile.n_rows
    goal = f"a precision of {promise.target:.4g} with confidence {promise.confidence:.4g}"
    needed = _labels_needed(profile, promise)
    start = promise.start(have)
    if start > have:
        reason = f"{goal} takes at least {start} accepted rows without an error"
    else:
        tested = profile.with_ties(start)
        reason = (
            f"{profile.errors(tested)} of the {tested} most confident rows are wrong, too many "
            f"for {goal}"
        )
    head = f"not certifiable with these {have} labels: {reason}"
    if needed is None:
        best = 1 - profile.expected_rate(_trusted_rows(profile))
        return NotCertifiableError(
            f"{head}; more labels would not help, for as far as these tell, the precision is "
            f"{best:.1%} at its best. Lower the target or improve the model."
        )
    more = max(1, needed - have)  # the plan is rounder than the test that has just failed
    return NotCertifiableError(
        f"{head}; about {more} more needed if they look like the present ones.", more
    )


def _trusted_rows(profile: _Profile) -> int:
    """Fewest top rows whose error rate is taken at its word when planning."""
    share = math.ceil(profile.n_rows * _SMALLEST_SHARE)
    return profile.with_ties(min(profile.n_rows, max(20, share)))


def _labels_needed(profile: _Profile, promise: _Promise) -> int | None:
    """Fewest labels with which the first test would pass, at the observed rates of errors."""
    trusted = _trusted_rows(profile)

    def passes(n_labels: int) -> bool:
        # The strictest threshold of a larger sample accepts a smaller share, so look up the errors
        # of that share among the rows at hand, and round the expected number of errors up.
        start = promise.start(n_labels)
        if start > n_labels:
            return False
        seen = math.ceil(start * profile.n_rows / n_labels - 1e-9)
        seen = profile.with_ties(max(trusted, seen))
        n_accepted = max(start, seen * n_labels // profile.n_rows)
        expected = math.ceil(profile.expected_rate(seen) * n_accepted - 1e-9)
        return promise.holds(n_accepted, expected)

    low = high = max(profile.n_rows, promise.fewest[0] - 1)
    while not passes(high):
        if high > 1_000 * (profile.n_rows + promise.fewest[0]):
            return None  # no better than the target where the model is most sure of itself
        low, high = high, math.ceil(high * 1.02) + (high == low)
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle
    return high
