"""May one say that the calibration error is below 2 %? Yes, no, or not from these rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm as normal

from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE, check_count, check_fraction
from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics.binning import (
    Bins,
    Strategy,
    assign_bins,
    combine,
    judge,
    summarise,
)
from skllm_calib.metrics.calibration_error import folded_normal_mean
from skllm_calib.metrics.noise import floor_of, standard_error, without_noise

__all__ = ["CalibrationClaim", "can_claim"]

# Further rows are counted so that the claim would succeed four times out of five.
_POWER = 0.8
# Beyond so many times the present rows and so many in all, "about so many more" would be a guess.
_MOST_TIMES, _MOST_ROWS = 1e3, 1e6


@dataclass(frozen=True)
class CalibrationClaim:
    """The answer to "is the calibration error below `target`?"; true only for "yes".

    Attributes
    ----------
    verdict : {"yes", "no", "not enough rows"}
        Whether the rows support the claim, support its opposite, or neither.
    target : float
        The error that is claimed to be an upper bound, as a fraction.
    confidence : float
        Confidence of the claim.
    estimate : float
        Expected calibration error of the rows (plug-in), as a fraction.
    lower_bound, upper_bound : float
        One-sided bounds of the error of the model, each of confidence `confidence`. The lower one
        has the noise of the bins taken out.
    noise_floor : float
        What a perfectly calibrated model would show on average at these confidences.
    n : int
        Number of rows.
    n_more : int or None
        About how many further rows like these would make the claim succeed four times out of five;
        0 for "yes", and None if more of the same would not help, as the error that they show
        without noise is not below the target.
    """

    verdict: Literal["yes", "no", "not enough rows"]
    target: float
    confidence: float
    estimate: float
    lower_bound: float
    upper_bound: float
    noise_floor: float
    n: int
    n_more: int | None

    def __bool__(self) -> bool:
        return self.verdict == "yes"

    def __str__(self) -> str:
        shown = (
            f"{self.n:,} rows show a calibration error of {self.estimate:.1%}, a perfectly "
            f"calibrated model would show {self.noise_floor:.1%}"
        )
        sure = f"with {self.confidence:.0%} confidence"
        if self.verdict == "yes":
            return (
                f"Yes: {sure} the error is below {self.target:.1%} (at most "
                f"{self.upper_bound:.2%}); {shown}."
            )
        if self.verdict == "no":
            return (
                f"No: {sure} the error is not below {self.target:.1%} (at least "
                f"{self.lower_bound:.2%}); {shown}."
            )
        start = (
            f"Not enough rows to say whether the error is below {self.target:.1%} (between "
            f"{self.lower_bound:.2%} and {self.upper_bound:.2%}); {shown}."
        )
        if self.n_more is None:
            return (
                f"{start} If more rows look like these, they would not help: what is left of the "
                "error without its noise is not below the target."
            )
        return f"{start} About {self.n_more:,} more labelled rows like these could tell."


def can_claim(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    target: float = 0.02,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    n_bins: int = 10,
    strategy: Strategy = "quantile",
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> CalibrationClaim:
    """Decide whether these rows support the claim that the calibration error is below `target`.

    The rule: the plug-in error in ten bins of equal mass, plus 1.645 standard errors at 95 %
    confidence, has to be below the target. The standard error is bootstrapped with rows resampled
    inside fixed bins. A figure below the target is not enough: at a true error of exactly 2 %, the
    plug-in of 15 bins is below it in 21 to 59 % of test sets of 5,000 or 10,000 rows, this bound in
    1 to 9 %.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans, of rows that were used to fit neither the model
        nor its calibrator.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    target : float in (0, 1), default=0.02
        The error to stay below, as a fraction.
    confidence : float in (0.5, 1), default=0.95
        One-sided confidence of the claim.
    n_bins : int, default=10
        Number of bins.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of equal mass or of equal width.
    n_resamples : int, default=1000
        Number of bootstrap samples, at least 2.
    random_state : int, Generator or None, default=0
        Seed of the bootstrap.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is evaluated: that of the most probable class, or that of one class.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights. They tell how much a row counts, not how often it was seen: their scale does not
        matter.

    Returns
    -------
    claim : CalibrationClaim
        The verdict, which is true in an ``if`` only when it is "yes", with the figures behind it;
        ``str(claim)`` is a sentence.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    See Also
    --------
    calibration_test : The question whether there is any error at all.
    calibration_error_interval : The same bounds as an interval.

    Notes
    -----
    The claim is about the error in bins: rises and falls within a bin are not seen. It holds for
    rows drawn like these. At a mean confidence of 0.85, a calibrated model passes on 2,000 rows one
    time in ten, on 5,000 more than four times in five; at 0.95, on 1,000 rows every second time, on
    2,000 nearly always (simulated; ``benchmarks/claim_rates.py`` in the repository).

    References
    ----------
    .. [1] A. Kumar, P. Liang, T. Ma (2019). Verified Uncertainty Calibration. NeurIPS.
    .. [2] R. Roelofs, N. Cain, J. Shlens, M. C. Mozer (2022). Mitigating Bias in Calibration Error
       Estimation. AISTATS.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.metrics import can_claim
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.9, 1, 10_000)
    >>> y = rng.random(10_000) < p  # calibrated by construction
    >>> bool(can_claim(y, p))
    True
    >>> print(can_claim(y[:200], p[:200]))
    Not enough rows to say whether the error is below 2.0% (between 0.00% and ...%); 200 rows show a
    calibration error of ...%, a perfectly calibrated model would show ...%.
    About ... more labelled rows like these could tell.
    """
    check_fraction(target, "target", hint="2 % is 0.02")
    check_fraction(confidence, "confidence", 0.5)
    check_count(n_resamples, "n_resamples", 2)
    judged = judge(
        check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        ),
        kind,
    )
    number = assign_bins(judged.confidence, judged.weight, n_bins, strategy)
    bins = summarise(judged, number)
    estimate = combine(bins.mass, bins.gap, "l1")
    z = float(normal.ppf(confidence))
    reach = z * standard_error(judged, number, bins, int(n_resamples), random_state)
    lower, upper = without_noise(bins, estimate - reach, estimate), min(estimate + reach, 1.0)
    n_rows = int(judged.hit.size)
    verdict: Literal["yes", "no", "not enough rows"]
    n_more: int | None
    if upper < target:
        verdict, n_more = "yes", 0
    else:
        verdict = "no" if lower >= target else "not enough rows"
        n_more = None if verdict == "no" else _rows_missing(bins, estimate, target, z, n_rows)
    return CalibrationClaim(
        verdict=verdict,
        target=float(target),
        confidence=float(confidence),
        estimate=estimate,
        lower_bound=lower,
        upper_bound=upper,
        noise_floor=floor_of(bins),
        n=n_rows,
        n_more=n_more,
    )


def _rows_missing(bins: Bins, estimate: float, target: float, z: float, n_rows: int) -> int | None:
    """Return how many more rows the rule will about need, if they look like these."""
    # The gaps that, with the noise of the bins on top, would show what was seen.
    shrink = without_noise(bins, estimate, estimate) / estimate if estimate > 0 else 0.0
    gap = shrink * bins.gap
    deviation = np.sqrt(np.maximum(bins.noise, bins.null_noise))
    reach = z + float(normal.ppf(_POWER))

    def excess(log_times: float) -> float:
        """Bound to expect on so many times the rows, minus the target."""
        spread = deviation * math.exp(-log_times / 2)
        mean = folded_normal_mean(gap, spread)
        variance = float(bins.mass**2 @ np.maximum(gap**2 + spread**2 - mean**2, 0.0))
        return float(bins.mass @ mean) + reach * math.sqrt(variance) - target

    furthest = math.log(max(_MOST_TIMES, _MOST_ROWS / n_rows))
    if excess(furthest) >= 0:
        return None
    if excess(0.0) <= 0:  # only the noise of the bootstrap was in the way
        return n_rows
    more = n_rows * math.expm1(float(brentq(excess, 0.0, furthest)))
    digits = 2 - math.ceil(math.log10(max(more, 1.0)))  # "about": two digits
    return max(int(round(more, digits)), 1)
