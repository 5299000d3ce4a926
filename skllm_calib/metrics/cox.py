"""Cox's recalibration: how steep and how high the line through the log-odds has to be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import chi2
from scipy.stats import norm as normal

from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics._binning import DECIMALS, Judged, judge

__all__ = ["CoxCalibration", "cox_calibration_error"]

# Confidences of 0 and 1 have no log-odds; beyond this many nats they count as equally sure.
_FURTHEST = 25.0
_MAX_STEPS = 100
_TOLERANCE = 1e-10


class CoxCalibration(NamedTuple):
    """The logistic recalibration of a model, with its uncertainty.

    Attributes
    ----------
    error : float
        Mean absolute difference between stated and recalibrated confidence, in [0, 1].
    slope, intercept : float
        Log-odds of a hit are ``intercept + slope * logit(confidence)``; 1 and 0 if calibrated. A
        slope below 1 means confidences that are too extreme.
    slope_interval, intercept_interval : tuple of float
        Ends of their confidence intervals.
    p_value : float
        Of the hypothesis that slope and intercept are 1 and 0 (Wald's test).
    """

    error: float
    slope: float
    intercept: float
    slope_interval: tuple[float, float]
    intercept_interval: tuple[float, float]
    p_value: float


def cox_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    confidence: float = 0.95,
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> CoxCalibration:
    """Calibration error of the logistic recalibration, with its slope and intercept.

    The outcomes are regressed on the log-odds of the confidences [1]_, and the error is the mean
    distance between the confidences and the curve that is found. Two parameters have little noise,
    so this sees over-confidence on fewer rows than any binned error. It is blind to what the two
    cannot bend to: an error that goes up and down along the confidences may pass unseen.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes; 1-D holds the probability
        of `pos_label`.
    confidence : float in (0, 1), default=0.95
        Two-sided confidence of the intervals.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is judged: that of the most probable class, or that of one class.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights. They tell how much a row counts, not how often it was seen: their scale does not
        matter to the intervals.

    Returns
    -------
    result : CoxCalibration
        Error, slope, intercept, their intervals and a p-value.

    Raises
    ------
    ValueError
        If an input does not fit, or if the rows do not determine the line: all of them hits (or
        all misses), all confidences equal, or a threshold that separates hits from misses.

    See Also
    --------
    spline_calibration_error : A curve that can bend more than once.

    Notes
    -----
    The intervals are Wald's with the variance of Huber and White, which holds for weighted rows and
    for curves that are not quite logistic [2]_. Confidences of 0 and 1 are taken as 25 nats.

    References
    ----------
    .. [1] D. R. Cox (1958). Two further applications of a model for binary regression. Biometrika
       45.
    .. [2] H. White (1982). Maximum likelihood estimation of misspecified models. Econometrica 50.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import expit, logit
    >>> from skllm_calib.metrics import cox_calibration_error
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(2, 2, 2000)
    >>> y = rng.random(2000) < expit(0.5 * logit(p))  # log-odds twice too extreme
    >>> result = cox_calibration_error(y, p, kind=True)
    >>> bool(result.slope_interval[0] < 0.5 < result.slope_interval[1]), result.p_value < 0.001
    (True, True)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}.")
    judged = judge(
        check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        ),
        kind,
    )
    odds = np.clip(logit(judged.confidence), -_FURTHEST, _FURTHEST)
    _check_determined(judged, odds)
    share = judged.weight / judged.weight.sum()
    line, covariance = _logistic(np.column_stack([np.ones_like(odds), odds]), judged.hit, share)
    recalibrated = expit(line[0] + line[1] * odds)
    reach = float(normal.ppf(0.5 + confidence / 2)) * np.sqrt(np.diag(covariance))
    off = line - np.array([0.0, 1.0])
    return CoxCalibration(
        error=float(share @ np.abs(recalibrated - judged.confidence)),
        slope=float(line[1]),
        intercept=float(line[0]),
        slope_interval=(float(line[1] - reach[1]), float(line[1] + reach[1])),
        intercept_interval=(float(line[0] - reach[0]), float(line[0] + reach[0])),
        p_value=float(chi2.sf(off @ np.linalg.solve(covariance, off), 2)),
    )


def _check_determined(judged: Judged, odds: NDArray[np.float64]) -> None:
    """Refuse rows for which the likelihood has no single, finite best line."""
    way_out = "Label more rows, or use expected_calibration_error."
    n_rows, n_hits = judged.hit.size, int(judged.hit.sum())
    if n_hits in (0, n_rows):
        raise ValueError(
            f"{n_hits} of the {n_rows} rows are hits: the line through the log-odds has no finite "
            f"intercept. {way_out}"
        )
    stated = np.unique(np.round(judged.confidence, DECIMALS))
    if stated.size == 1 or np.ptp(odds) == 0:
        raise ValueError(
            f"all {n_rows} rows state the confidence {stated[0]:.6g}: one point has no slope. "
            f"{way_out}"
        )
    hits, misses = odds[judged.hit == 1], odds[judged.hit == 0]
    if misses.max() <= hits.min() or hits.max() <= misses.min():
        raise ValueError(
            f"a threshold on the confidence separates the {n_hits} hits from the "
            f"{n_rows - n_hits} misses: the line through the log-odds has no finite slope. "
            f"{way_out}"
        )


def _logistic(
    design: NDArray[np.float64], hit: NDArray[np.float64], share: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maximise the likelihood by Newton's method; return the line and its robust covariance."""
    # A level line, for the calibrated one may lie where the likelihood is too flat to start from.
    line = np.array([logit(share @ hit), 0.0])

    def loss(at: NDArray[np.float64]) -> float:
        log_odds = design @ at
        return float(share @ (np.logaddexp(0, log_odds) - hit * log_odds))

    for _ in range(_MAX_STEPS):
        p = expit(design @ line)
        gradient = design.T @ (share * (p - hit))
        curvature = (design * (share * p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(curvature, gradient)
        scale = 1.0  # the likelihood is concave: halving always ends
        while loss(line - scale * step) > loss(line) + 1e-15 and scale > 1e-8:
            scale /= 2
        line = line - scale * step
        if np.abs(scale * step).max() < _TOLERANCE:
            break
    score = design * (share * (hit - expit(design @ line)))[:, None]
    inverse = np.linalg.inv(curvature)
    return line, inverse @ (score.T @ score) @ inverse
