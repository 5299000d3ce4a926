"""The metrics as scikit-learn scorers, for ``scoring=`` of searches and cross-validation.

Scorers are objects because scikit-learn has no registry for new scorer names. All of them ask for
``predict_proba`` and for nothing else, so that several at once cost one prediction: within a
multi-metric call scikit-learn remembers the answer of each response method.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import log_loss, make_scorer

from skllm_calib.metrics._binning import Strategy, check_bins
from skllm_calib.metrics._validation import check_labels
from skllm_calib.metrics.calibration_error import (
    classwise_calibration_error,
    expected_calibration_error,
)
from skllm_calib.metrics.proper_scores import brier_score, top_label_accuracy

__all__ = [
    "brier_scorer",
    "calibration_scoring",
    "classwise_ece_scorer",
    "ece_scorer",
    "log_loss_scorer",
]


def calibration_scoring(
    labels: ArrayLike | None = None,
    *,
    n_bins: int = 15,
    strategy: Strategy = "uniform",
) -> dict[str, Any]:
    """Scorers of calibration, proper scores and accuracy, from one prediction a row.

    Every scorer is a new object: ``set_score_request`` changes nothing elsewhere. Losses are
    *negated*, as everywhere in scikit-learn, so that greater is better.

    Parameters
    ----------
    labels : array-like of shape (n_classes,), default=None
        All classes of the estimator, in any order: its columns are always sorted. Give them
        whenever a test fold may lack a class, because a scorer sees only the labels of the fold
        and the columns of the estimator, not the names of the columns.
    n_bins : int, default=15
        Number of bins of the calibration errors.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width or of equal mass.

    Returns
    -------
    scoring : dict of str to scorer
        ``ece``, ``classwise_ece``, ``brier``, ``log_loss`` (all negated) and ``accuracy``.

    Raises
    ------
    ValueError
        If the parameters mean nothing. The scorers raise when a fold lacks a class and no labels
        were given; cross-validation turns this into a warning and a score of NaN.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_validate
    >>> from skllm_calib.metrics import calibration_scoring
    >>> X, y = load_iris(return_X_y=True)
    >>> scoring = calibration_scoring(labels=[0, 1, 2])
    >>> result = cross_validate(LogisticRegression(max_iter=500), X, y, scoring=scoring)
    >>> bool(result["test_accuracy"].mean() > 0.9), bool(result["test_ece"].mean() < 0)
    (True, True)
    """
    check_bins(n_bins, strategy)
    known: dict[str, Any] = {}
    if labels is not None:
        known["labels"] = check_labels(np.unique(np.asarray(labels))).tolist()
    binned = {**known, "n_bins": n_bins, "strategy": strategy}
    return {
        "ece": _scorer(expected_calibration_error, **binned),
        "classwise_ece": _scorer(classwise_calibration_error, **binned),
        "brier": _scorer(brier_score, **known),
        "log_loss": _scorer(log_loss, **known),
        "accuracy": _scorer(top_label_accuracy, greater_is_better=True, **known),
    }


def _scorer(metric: Any, *, greater_is_better: bool = False, **kwargs: Any) -> Any:
    return make_scorer(
        metric, response_method="predict_proba", greater_is_better=greater_is_better, **kwargs
    )


ece_scorer = _scorer(expected_calibration_error)
classwise_ece_scorer = _scorer(classwise_calibration_error)
brier_scorer = _scorer(brier_score)
log_loss_scorer = _scorer(log_loss)
