"""The Kolmogorov-Smirnov calibration error: cumulative sums in the place of bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics._binning import DECIMALS, judge

__all__ = ["ks_calibration_error"]


def ks_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Kolmogorov-Smirnov calibration error: the largest gap that any prefix of the rows piles up.

    The rows are sorted by confidence, and the share of all rows that is right so far is compared
    with the sum of the confidences so far [1]_:
    :math:`\max_t |\sum_{i: p_i \le t} w_i (y_i - p_i)| / \sum_i w_i`. There is nothing to tune, and
    on small test sets it is the least noisy of the calibration errors here.

    Where the gap has one sign over all confidences, it equals the ECE of very many rows; where the
    sign changes, it is smaller, as errors that cancel are counted up to the change only.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes; 1-D holds the probability
        of `pos_label`.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is judged: that of the most probable class, or that of one class.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights; a weight of 2 acts as the same row twice.

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
    spline_calibration_error : The mean absolute slope of the same cumulative sums.

    Notes
    -----
    Rows of equal confidence are added together, so the figure does not depend on the order of the
    rows, as it does in code that sorts them and looks at each.

    References
    ----------
    .. [1] K. Gupta, A. Rahimi, T. Ajanthan, T. Mensink, C. Sminchisescu, R. Hartley (2021).
       Calibration of Neural Networks using Splines. ICLR.

    Examples
    --------
    >>> from skllm_calib.metrics import ks_calibration_error
    >>> y_true = ["ham", "spam", "spam", "ham"]
    >>> p_spam = [0.1, 0.9, 0.9, 0.9]
    >>> round(ks_calibration_error(y_true, p_spam), 3)  # 3 of 4 right at confidence 0.9
    0.15
    """
    checked = check_input(
        y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
    )
    judged = judge(checked, kind)
    _, group = np.unique(np.round(judged.confidence, DECIMALS), return_inverse=True)
    gap = np.bincount(group, weights=judged.weight * (judged.hit - judged.confidence))
    return float(np.abs(np.cumsum(gap)).max() / judged.weight.sum())
