"""Proper scores: what a forecast is worth, calibration and sharpness together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.validation import check_input

__all__ = ["EPS", "brier_score", "log_loss", "log_loss_of", "top_label_accuracy"]

EPS = float(np.finfo(np.float64).eps)  # scikit-learn's log_loss clips here


def brier_score(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    scale_by_half: bool = False,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Brier score of any number of classes: mean squared distance to the one-hot truth.

    The squares are summed over the classes, so the score runs from 0 to 2 for *every* number of
    classes, as Brier defined it [1]_. :func:`sklearn.metrics.brier_score_loss` halves it for two
    classes and not for more; with ``scale_by_half=True`` this function gives half, within [0, 1],
    always, and then equals scikit-learn's figure for two classes.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label` and gives the same score as the two-column matrix.
    scale_by_half : bool, default=False
        Whether to halve the score.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    score : float
        Brier score in [0, 2], or in [0, 1] when halved; lower is better.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    References
    ----------
    .. [1] G. W. Brier (1950). Verification of forecasts expressed in terms of probability. Monthly
       Weather Review 78.

    Examples
    --------
    >>> from skllm_calib.metrics import brier_score
    >>> round(brier_score(["ham", "spam"], [0.2, 0.7]), 4)
    0.13
    >>> round(brier_score(["ham", "spam"], [0.2, 0.7], scale_by_half=True), 4)
    0.065
    """
    checked = check_input(
        y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
    )
    distance = checked.proba.copy()
    distance[np.arange(distance.shape[0]), checked.codes] -= 1
    score = float(np.average((distance**2).sum(axis=1), weights=checked.weight))
    return score / 2 if scale_by_half else score


def log_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the figure of :func:`sklearn.metrics.log_loss`, for all that the metrics here take."""
    checked = check_input(y_true, y_proba, labels=labels, sample_weight=sample_weight)
    own = checked.proba[np.arange(checked.codes.size), checked.codes]
    return float(np.average(log_loss_of(own), weights=checked.weight))


def log_loss_of(proba: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-loss of rows, given the probability of the true class of each."""
    return np.asarray(-np.log(np.clip(proba, EPS, 1 - EPS)))


def top_label_accuracy(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Accuracy of the most probable class, computed from probabilities.

    It needs no second call of the model, which matters when every prediction is paid for. Of equal
    probabilities the first class wins, as in scikit-learn.

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
    accuracy : float
        Share of correct rows in [0, 1].

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    Examples
    --------
    >>> from skllm_calib.metrics import top_label_accuracy
    >>> top_label_accuracy(["ham", "spam"], [[0.8, 0.2], [0.6, 0.4]])
    0.5
    """
    checked = check_input(
        y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
    )
    right = checked.proba.argmax(axis=1) == checked.codes
    return float(np.average(right, weights=checked.weight))
