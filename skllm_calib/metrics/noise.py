"""How much of a calibration error may be chance: the noise floor and an interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm as normal

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE, check_count, check_fraction
from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics.binning import (
    Bins,
    Judged,
    Norm,
    Strategy,
    assign_bins,
    combine,
    judge,
    summarise,
)
from skllm_calib.metrics.calibration_error import folded_normal_mean

__all__ = ["CalibrationErrorInterval", "calibration_error_interval", "calibration_noise_floor"]


class CalibrationErrorInterval(NamedTuple):
    """A calibration error with its uncertainty, all as fractions in [0, 1].

    Attributes
    ----------
    estimate : float
        The plug-in error, as :func:`expected_calibration_error` gives it.
    low, high : float
        Ends of the interval for the error of the model on endless data.
    """

    estimate: float
    low: float
    high: float


def calibration_noise_floor(
    y_proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: Strategy = "uniform",
    norm: Norm = "l1",
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    quantile: float | None = None,
    n_simulations: int = 0,
    random_state: int | np.random.Generator | None = 0,
) -> float:
    r"""Calibration error that a perfectly calibrated model would show at these confidences.

    A test set of 200 rows shows an error of about 5 points even if every confidence is exactly
    right. An error near this floor is no evidence of miscalibration, and an error below a wanted
    bound means little if the floor is above it.

    Without simulation the mean is approximated in closed form,
    :math:`\sum_b m_b \sqrt{2 v_b/\pi}` with the mass :math:`m_b` and the variance :math:`v_b` of
    the mean of a bin, ``mean(p * (1 - p)) / n`` for equal weights. With simulation, outcomes are
    drawn from the confidences.

    Parameters
    ----------
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1]; 1-D holds those of the positive class.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width or of equal mass.
    norm : {"l1", "l2", "max"}, default="l1"
        As in :func:`expected_calibration_error`; "max" has no closed form.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is evaluated; a class label needs `labels`.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights; their scale does not matter.
    quantile : float in (0, 1), default=None
        Return this quantile of the simulated errors instead of their mean. An error below the 0.95
        quantile is compatible with perfect calibration.
    n_simulations : int, default=0
        Number of simulated test sets; 0 for the closed form.
    random_state : int, Generator or None, default=0
        Seed of the simulation.

    Returns
    -------
    floor : float
        Calibration error in [0, 1], as a fraction.

    Raises
    ------
    ValueError
        If an input does not fit, or a figure needs a simulation and `n_simulations` is 0.

    References
    ----------
    .. [1] J. Bröcker, L. A. Smith (2007). Increasing the Reliability of Reliability Diagrams.
       Weather and Forecasting 22.
    .. [2] R. Roelofs, N. Cain, J. Shlens, M. C. Mozer (2022). Mitigating Bias in Calibration Error
       Estimation. AISTATS.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.metrics import calibration_noise_floor
    >>> round(calibration_noise_floor(np.full(200, 0.85)), 4)  # one bin only
    0.0201
    """
    check_count(n_simulations, "n_simulations", 0)
    if quantile is not None:
        check_fraction(quantile, "quantile")
    if n_simulations == 0 and (quantile is not None or norm == "max"):
        raise InvalidInput(
            "quantile and norm='max' need a simulation: set n_simulations=1000",
            "n_simulations",
            value=n_simulations,
        )
    checked = check_input(
        None, y_proba, labels=labels, sample_weight=sample_weight, allow_unlabelled=True
    )
    if labels is None and not (isinstance(kind, str) and kind == "top-label"):
        raise InvalidInput(
            f"kind={kind!r} needs labels= to know which column it is", "kind", value=kind
        )
    judged = judge(checked, kind)  # the outcomes play no part
    number = assign_bins(judged.confidence, judged.weight, n_bins, strategy)
    bins = summarise(judged, number)
    if n_simulations == 0:
        return floor_of(bins, norm)
    # Sorted rows make the draws, and so the figure, independent of the order of the rows.
    order = np.lexsort((judged.weight, judged.confidence))
    confidence, _, weight = (column[order] for column in judged)
    rng = np.random.default_rng(random_state)
    errors = np.empty(n_simulations)
    for draw in range(n_simulations):
        hit = (rng.random(confidence.size) < confidence).astype(np.float64)
        drawn = summarise(Judged(confidence, hit, weight), number[order])
        errors[draw] = combine(drawn.mass, drawn.gap, norm)
    return float(errors.mean() if quantile is None else np.quantile(errors, quantile))


def floor_of(bins: Bins, norm: Norm = "l1") -> float:
    """Return the closed form of the noise floor of bins that are already summed up."""
    if norm == "l1":
        return float(bins.mass @ np.sqrt(2 / np.pi * bins.null_noise))
    return combine(bins.mass, np.sqrt(bins.null_noise), norm)


def calibration_error_interval(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
    n_bins: int = 15,
    strategy: Strategy = "uniform",
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> CalibrationErrorInterval:
    """Confidence interval of the expected calibration error.

    The standard error is bootstrapped with rows resampled inside fixed bins. As the plug-in lies
    above the truth on average, the two ends treat the bias differently, each on the safe side:
    `high` keeps it (plug-in plus standard errors), and `low` is the error that, with the noise of
    the bins added, would show the plug-in minus standard errors; it is 0 when noise alone explains
    that much. Plain percentiles would count the bias twice, and reflected ones cover too little.

    "The error is below 2 %" may be said with 95 % confidence when `high` of a 90 % interval is:
    plug-in + 1.645 standard errors.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    confidence : float in (0, 1), default=0.95
        Two-sided confidence of the interval; the true error counts at the same bins.
    n_resamples : int, default=1000
        Number of bootstrap samples, at least 2.
    random_state : int, Generator or None, default=0
        Seed of the bootstrap.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width or of equal mass.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is evaluated.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    interval : CalibrationErrorInterval
        Plug-in estimate and the ends of the interval, as fractions; low <= estimate <= high.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    References
    ----------
    .. [1] A. Kumar, P. Liang, T. Ma (2019). Verified Uncertainty Calibration. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib.metrics import calibration_error_interval
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.5, 1, 1000)
    >>> y = rng.random(1000) < p  # calibrated by construction
    >>> interval = calibration_error_interval(y, p)
    >>> interval.low, interval.high < 0.06
    (0.0, True)
    """
    check_fraction(confidence, "confidence")
    check_count(n_resamples, "n_resamples", 2)
    checked = check_input(
        y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
    )
    judged = judge(checked, kind)
    number = assign_bins(judged.confidence, judged.weight, n_bins, strategy)
    bins = summarise(judged, number)
    plug_in = combine(bins.mass, bins.gap, "l1")
    error = standard_error(judged, number, bins, n_resamples, random_state)
    reach = float(normal.ppf(0.5 + confidence / 2)) * error
    return CalibrationErrorInterval(
        estimate=plug_in,
        low=without_noise(bins, plug_in - reach, plug_in),
        high=min(plug_in + reach, 1.0),
    )


def standard_error(
    judged: Judged,
    number: NDArray[np.int64],
    bins: Bins,
    n_resamples: int,
    random_state: int | np.random.Generator | None,
) -> float:
    """Standard error of the plug-in, from rows resampled inside fixed bins."""
    errors = _resampled_errors(judged, number, bins, n_resamples, random_state)
    # A bin without a single mistake has no spread to resample; a calibrated model's would have.
    null_variance = float(bins.mass**2 @ bins.null_noise) * (1 - 2 / np.pi)
    return float(max(float(errors.var(ddof=1)), null_variance) ** 0.5)


def _resampled_errors(
    judged: Judged,
    number: NDArray[np.int64],
    bins: Bins,
    n_resamples: int,
    random_state: int | np.random.Generator | None,
) -> NDArray[np.float64]:
    order = np.lexsort((judged.weight, judged.hit, judged.confidence, number))
    confidence, hit, weight = (column[order] for column in judged)
    first = np.cumsum(bins.counts) - bins.counts
    start, size = np.repeat(first, bins.counts), np.repeat(bins.counts, bins.counts)
    weighted_residual = weight * (hit - confidence)
    rng = np.random.default_rng(random_state)
    errors = np.empty(n_resamples)
    for draw in range(n_resamples):
        row = start + (rng.random(size.size) * size).astype(np.int64)
        gap = np.add.reduceat(weighted_residual[row], first) / np.add.reduceat(weight[row], first)
        errors[draw] = bins.mass @ np.abs(gap)
    return errors


def without_noise(bins: Bins, seen: float, plug_in: float) -> float:
    """Error whose bins, shrunk copies of the observed ones plus noise, would show ``seen``."""
    deviation = np.sqrt(np.maximum(bins.noise, bins.null_noise))

    def excess(scale: float) -> float:
        return float(bins.mass @ folded_normal_mean(scale * bins.gap, deviation)) - seen

    if excess(0.0) >= 0:
        return 0.0
    return plug_in * float(brentq(excess, 0.0, 1.0))
