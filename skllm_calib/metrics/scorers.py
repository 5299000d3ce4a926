"""The metrics as scikit-learn scorers, for ``scoring=`` of searches and cross-validation.

Scorers are objects because scikit-learn has no registry for new scorer names. All of them ask for
``predict_proba`` and for nothing else, so that several at once cost one prediction: within a
multi-metric call scikit-learn remembers the answer of each response method. They know the columns
from ``estimator.classes_``, so a fold may lack a class, among its training rows or its test rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Only what derives from this class shares one prediction in multi-metric scoring.
from sklearn.metrics._scorer import _BaseScorer

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_classes, distinct, shown
from skllm_calib.log_proba.parameters import check_fraction
from skllm_calib.log_proba.validation import check_weighted_labels
from skllm_calib.metrics.binning import NumberOfBins, Strategy, check_bins, is_sweep
from skllm_calib.metrics.calibration_error import (
    classwise_calibration_error,
    expected_calibration_error,
)
from skllm_calib.metrics.proper_scores import brier_score, log_loss, top_label_accuracy
from skllm_calib.metrics.selective import aurc, selective_risk
from skllm_calib.metrics.smooth import smooth_calibration_error

__all__ = [
    "aurc_scorer",
    "brier_scorer",
    "calibration_scoring",
    "classwise_ece_scorer",
    "ece_scorer",
    "log_loss_scorer",
    "selective_risk_scorer",
    "smooth_ece_scorer",
]


def calibration_scoring(
    labels: ArrayLike | None = None,
    *,
    n_bins: NumberOfBins = 15,
    strategy: Strategy = "uniform",
    coverage: float = 0.8,
) -> dict[str, Any]:
    """Scorers of calibration, proper scores and accuracy, from one prediction per row.

    Every scorer is a new object: ``set_score_request`` changes nothing elsewhere. Losses are
    *negated*, as everywhere in scikit-learn, so that greater is better.

    Parameters
    ----------
    labels : array-like of shape (n_classes,), default=None
        All classes, in any order: needed only where neither the estimator nor the test rows of a
        fold know one of them and it is to count all the same. None takes the classes of the
        estimator and of the test rows.
    n_bins : int or "sweep", default=15
        Number of bins of ``ece`` and ``classwise_ece``; "sweep" as in
        :func:`expected_calibration_error`.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width or of equal mass.
    coverage : float, default=0.8
        Share of the rows that counts for the selective risk, in (0, 1].

    Returns
    -------
    scoring : dict of str to scorer
        ``ece``, ``classwise_ece``, ``smooth_ece``, ``brier``, ``log_loss``, ``aurc``,
        ``selective_risk`` (all negated) and ``accuracy``.

    Raises
    ------
    InvalidInput
        If a parameter is out of range. The scorers raise when a label of the estimator or of the
        test rows is not among `labels`; cross-validation makes this a warning and a score of NaN.

    Notes
    -----
    A class that the training rows of a fold lacked has no column; it counts as probability zero,
    for that is what the estimator says of it. The log-loss then is as large as scikit-learn's
    clipping lets it be (36 per row). Declare the classes to the estimator where it can take them.

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
    check_bins(1 if is_sweep(n_bins) else n_bins, strategy)
    check_fraction(coverage, "coverage", include="high")
    known: dict[str, Any] = {}
    if labels is not None:
        known["labels"] = check_classes(labels, "labels", sort=True).tolist()
    binned = {**known, "n_bins": n_bins, "strategy": strategy}
    return {
        "ece": _scorer(expected_calibration_error, **binned),
        "classwise_ece": _scorer(classwise_calibration_error, **binned),
        "smooth_ece": _scorer(smooth_calibration_error, **known),
        "brier": _scorer(brier_score, **known),
        "log_loss": _scorer(log_loss, **known),
        "aurc": _scorer(aurc, **known),
        "selective_risk": _scorer(selective_risk, coverage=coverage, **known),
        "accuracy": _scorer(top_label_accuracy, greater_is_better=True, **known),
    }


class _ProbabilityScorer(_BaseScorer):  # type: ignore[misc]
    """Scores the matrix of probabilities, with one column for each class there is."""

    def _score(
        self, method_caller: Any, estimator: Any, X: Any, y_true: ArrayLike, **kwargs: Any
    ) -> float:
        self._warn_overlap("The scorer has these parameters of its own.", kwargs)
        options = {**self._kwargs, **kwargs}
        known = np.asarray(estimator.classes_).tolist()
        if len(known) > 1:
            proba = np.asarray(method_caller(estimator, "predict_proba", X, pos_label=None))
        else:  # scikit-learn refuses to hand over the one column that there is
            proba = np.asarray(estimator.predict_proba(X))
        if proba.ndim == 1:  # of two classes it hands over the second
            proba = np.column_stack([1 - proba, proba])
        labels = options.pop("labels", None)
        if labels is None:
            truth, _ = check_weighted_labels(y_true, options.get("sample_weight"), name="y_true")
            labels = _union(known, distinct(truth).tolist())
        strange = [label for label in known if label not in labels]
        if strange:
            raise InvalidInput(
                f"the estimator has the class {strange[0]!r}, which is not in "
                f"labels={shown(labels)}: give all classes to calibration_scoring(labels=...), or "
                "none",
                "labels",
                value=strange[0],
            )
        full = np.zeros((len(proba), len(labels)), dtype=proba.dtype)
        full[:, [labels.index(label) for label in known]] = proba
        score = self._score_func(y_true, full, labels=labels, **options)
        return float(self._sign * score)


def _union(known: list[Any], present: list[Any]) -> list[Any]:
    try:
        return sorted({*known, *present})
    except TypeError as e:
        raise InvalidInput(
            f"the estimator has the classes {shown(known)}, but y_true holds {shown(present)}: "
            "labels must be of one type",
            "y_true",
            value=present,
        ) from e


def _scorer(metric: Any, *, greater_is_better: bool = False, **kwargs: Any) -> Any:
    sign = 1 if greater_is_better else -1
    return _ProbabilityScorer(metric, sign, kwargs, response_method="predict_proba")


ece_scorer = _scorer(expected_calibration_error)
classwise_ece_scorer = _scorer(classwise_calibration_error)
smooth_ece_scorer = _scorer(smooth_calibration_error)
brier_scorer = _scorer(brier_score)
log_loss_scorer = _scorer(log_loss)
aurc_scorer = _scorer(aurc)
selective_risk_scorer = _scorer(selective_risk)
