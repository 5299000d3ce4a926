"""Selective classification: how wrong the rows are of which the model is surest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.parameters import check_fraction
from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics.binning import DECIMALS, judge

__all__ = ["RiskCoverageCurve", "aurc", "risk_coverage_curve", "selective_risk"]


class RiskCoverageCurve(NamedTuple):
    """Coverage and risk at each threshold, from the surest rows to all; arrays (n_thresholds,).

    Attributes
    ----------
    coverage : ndarray
        Share of the rows (by weight) with at least the confidence of `threshold`, up to 1.
    risk : ndarray
        Share of errors among those rows.
    threshold : ndarray
        The different confidences, falling.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    threshold: NDArray[np.float64]


def risk_coverage_curve(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> RiskCoverageCurve:
    """Error rate among the rows accepted, for every threshold on the top label's probability.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    curve : RiskCoverageCurve
        ``coverage``, ``risk`` and ``threshold``, one entry for each different confidence.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    Notes
    -----
    It describes these rows. A threshold chosen from it breaks its promise in about every second
    draw: :func:`skllm_calib.accept_threshold` gives one with a guarantee.

    References
    ----------
    .. [1] Y. Geifman, R. El-Yaniv (2017). Selective Classification for Deep Neural Networks.
       NeurIPS.

    Examples
    --------
    >>> from skllm_calib.metrics import risk_coverage_curve
    >>> curve = risk_coverage_curve(["ham", "spam", "spam", "ham"], [0.1, 0.9, 0.6, 0.7])
    >>> curve.threshold.tolist(), curve.coverage.tolist()
    ([0.9, 0.7, 0.6], [0.5, 0.75, 1.0])
    >>> curve.risk.round(3).tolist()
    [0.0, 0.333, 0.25]
    """
    judged = judge(
        check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        )
    )
    confidence, group = np.unique(np.round(judged.confidence, DECIMALS), return_inverse=True)
    weight = np.bincount(group, weights=judged.weight)[::-1]
    wrong = np.bincount(group, weights=judged.weight * (1 - judged.hit))[::-1]
    accepted = np.cumsum(weight)
    return RiskCoverageCurve(
        accepted / accepted[-1], np.cumsum(wrong) / accepted, confidence[::-1].copy()
    )


def aurc(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Area under the risk-coverage curve: the error rate of the accepted rows, over all coverages.

    It rewards a model whose errors are where its confidence is low. It says nothing of calibration:
    any rising function of the confidences has the same area.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    area : float
        In [0, 1]; lower is better. The error rate of the model itself, if its confidence tells
        nothing.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    Notes
    -----
    It is the mean over the rows of the error rate among those at least as sure. Rows of equal
    confidence are accepted together, so the figure does not depend on the order of the rows, and a
    weight of 2 acts as the same row twice.

    References
    ----------
    .. [1] Y. Geifman, G. Uziel, R. El-Yaniv (2019). Bias-Reduced Uncertainty Estimation for Deep
       Neural Classifiers. ICLR.

    Examples
    --------
    >>> from skllm_calib.metrics import aurc
    >>> y_true = ["ham", "spam", "spam", "ham"]
    >>> round(aurc(y_true, [0.1, 0.9, 0.8, 0.6]), 4)  # the one error is the least sure
    0.0625
    >>> round(aurc(y_true, [0.3, 0.8, 0.7, 0.99]), 4)  # it is the surest
    0.5
    """
    curve = risk_coverage_curve(
        y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
    )
    return float(np.average(curve.risk, weights=np.diff(curve.coverage, prepend=0.0)))


def selective_risk(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    coverage: float = 0.8,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Error rate among the surest rows, as many as `coverage` says.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    coverage : float, default=0.8
        Share of the rows (by weight) that is accepted, in (0, 1].
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    risk : float
        Error rate in [0, 1]. Of rows that share the last confidence accepted, as many count as
        fit, each with the error rate that they have together.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    References
    ----------
    .. [1] Y. Geifman, R. El-Yaniv (2017). Selective Classification for Deep Neural Networks.
       NeurIPS.

    Examples
    --------
    >>> from skllm_calib.metrics import selective_risk
    >>> y_true, p_spam = ["ham", "spam", "spam", "ham"], [0.1, 0.9, 0.8, 0.6]
    >>> selective_risk(y_true, p_spam, coverage=0.75)
    0.0
    >>> selective_risk(y_true, p_spam, coverage=1.0)
    0.25
    """
    check_fraction(coverage, "coverage", include="high")
    curve = risk_coverage_curve(
        y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
    )
    points = np.concatenate([[0.0], curve.coverage])
    errors = np.concatenate([[0.0], curve.coverage * curve.risk])
    return float(np.interp(coverage, points, errors) / coverage)
