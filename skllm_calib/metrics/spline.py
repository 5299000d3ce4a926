"""Spline calibration error: the recalibration curve as the slope of a smooth cumulative sum."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics._binning import DECIMALS, Judged, judge

__all__ = ["spline_calibration_error"]


def spline_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_knots: int = 6,
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Calibration error of a smooth recalibration curve, without bins.

    The rows are sorted by confidence, and a natural cubic spline is fitted by least squares to the
    cumulative sum of ``hit - confidence`` over the share of rows so far [1]_. Its slope is the gap
    between accuracy and confidence at each row; the error is the mean absolute slope.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes; 1-D holds the probability
        of `pos_label`.
    n_knots : int, default=6
        Number of knots, at equal shares of the rows from the first to the last; at least 2. Six are
        those of [1]_; more can bend more often and are noisier.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is judged: that of the most probable class, or that of one class.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows; their scale does not matter.

    Returns
    -------
    error : float
        Calibration error in [0, 1], as a fraction.

    Raises
    ------
    ValueError
        If an input does not fit; the message names the row or the value.

    See Also
    --------
    ks_calibration_error : The largest absolute value of the same cumulative sums.
    cox_calibration_error : A curve of two parameters, with less noise.

    Notes
    -----
    The authors fit the sum of the hits, and compare its slope with each confidence. Here the spline
    is fitted to the sum of the gaps, so that a calibrated model has nothing to be fitted, however
    its confidences pile up near 1. Rows of equal confidence share their mean gap, so the figure
    does not depend on the order of the rows.

    References
    ----------
    .. [1] K. Gupta, A. Rahimi, T. Ajanthan, T. Mensink, C. Sminchisescu, R. Hartley (2021).
       Calibration of Neural Networks using Splines. ICLR.

    Examples
    --------
    >>> from skllm_calib.metrics import spline_calibration_error
    >>> y_true = ["ham", "spam", "spam", "ham"] * 50
    >>> p_spam = [0.1, 0.9, 0.9, 0.9] * 50
    >>> round(spline_calibration_error(y_true, p_spam), 3)  # 3 of 4 right at confidence 0.9
    0.15
    """
    if not isinstance(n_knots, Integral) or isinstance(n_knots, bool) or n_knots < 2:
        raise ValueError(f"n_knots must be an integer of at least 2, got {n_knots!r}.")
    checked = check_input(
        y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
    )
    place, height, share = _cumulative(judge(checked, kind))
    knots = np.linspace(0, 1, int(n_knots))
    # The natural splines that are 1 at one knot and 0 at the others span all of them.
    basis = CubicSpline(knots, np.eye(int(n_knots)), bc_type="natural")
    root = np.sqrt(share)
    heights, *_ = np.linalg.lstsq(basis(place) * root[:, None], height * root, rcond=None)
    return float(share @ np.abs(basis(place, 1) @ heights))


def _cumulative(
    judged: Judged,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Share of the rows up to the middle of each, sum of the gaps up to there, and its weight."""
    order = np.lexsort((judged.weight, np.round(judged.confidence, DECIMALS)))
    confidence, hit, weight = (column[order] for column in judged)
    share = weight / weight.sum()
    _, group = np.unique(np.round(confidence, DECIMALS), return_inverse=True)
    mean_gap = np.bincount(group, weights=share * (hit - confidence)) / np.bincount(group, share)
    gap = share * mean_gap[group]
    return np.cumsum(share) - share / 2, np.cumsum(gap) - gap / 2, share
