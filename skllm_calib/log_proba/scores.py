"""Log-probabilities of any classifier, of no row by a model that has seen it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing, indexable

from skllm_calib.log_proba.folds import Split
from skllm_calib.log_proba.numerics import log_normalise

__all__ = [
    "cross_fitted",
    "indexed",
    "log_proba_of",
    "needs_cross_fitting",
    "served_model",
]


def needs_cross_fitting(estimator: Any) -> bool:
    """Tell whether scores of rows seen in ``fit`` flatter; of unknown classifiers they may."""
    tell = getattr(estimator, "needs_cross_fitting", None)
    return not isinstance(estimator, FrozenEstimator) and (tell is None or bool(tell()))


def served_model(estimator: Any, X: Any) -> str | None:
    """Return the model that answered, where the estimator can tell."""
    tell = getattr(estimator, "served_model", None)
    return None if tell is None else tell(X)


def log_proba_of(estimator: Any, X: Any, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return log-probabilities from the best that a classifier offers.

    Parameters
    ----------
    estimator : classifier
        Fitted; with ``predict_proba`` or ``decision_function``.
    X : array-like of shape (n_samples,) or (n_samples, n_features)
    classes : ndarray of shape (n_classes,)
        All classes, sorted, at least those of the estimator.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Minus infinity for classes that the estimator does not know.

    Raises
    ------
    TypeError
        If the estimator offers no scores.
    """
    scores = _any_log_proba(estimator, X)
    known = np.asarray(estimator.classes_)
    if len(known) == len(classes):
        return scores
    full = np.full((len(scores), len(classes)), -np.inf)
    full[:, np.searchsorted(classes, known)] = scores
    return full


def _any_log_proba(estimator: Any, X: Any) -> NDArray[np.float64]:
    if hasattr(estimator, "predict_log_proba") and hasattr(estimator, "decision_function"):
        return np.asarray(estimator.predict_log_proba(X), dtype=np.float64)
    if hasattr(estimator, "predict_proba"):
        # Forests give exact zeros; the calibrator knows what to do with minus infinity.
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.asarray(estimator.predict_proba(X), dtype=np.float64)))
    if hasattr(estimator, "decision_function"):
        margin = np.asarray(estimator.decision_function(X), dtype=np.float64)
        if margin.ndim == 1:
            margin = np.column_stack([np.zeros_like(margin), margin])
        return log_normalise(margin)
    raise TypeError(
        f"{type(estimator).__name__} has neither predict_proba nor decision_function: there is no "
        "score to calibrate"
    )


def cross_fitted(
    fit: Callable[[Any, NDArray[np.intp]], Any],
    X: Any,
    y: NDArray[Any],
    classes: NDArray[Any],
    splits: Sequence[Split],
    *,
    score: Callable[[Any, Any, NDArray[Any]], NDArray[np.float64]] = log_proba_of,
    blank_unknown: bool = True,
) -> tuple[NDArray[np.float64], str | None]:
    """Score each row by an estimator fitted without it.

    Parameters
    ----------
    fit : callable
        Gets the rows of a training part and their positions, returns a fitted estimator.
    X : array-like of shape (n_samples,) or (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,)
        All classes, sorted.
    splits : sequence of (train, test)
        Positions of the rows.
    score : callable, default=log_proba_of
        Gets a fitted estimator, rows and all classes; returns the scores.
    blank_unknown : bool, default=True
        Whether rows are NaN whose class the training part lacks. To a calibrator such a model says
        nothing of them; to a judge of its answers they are errors.

    Returns
    -------
    scores : ndarray of shape (n_samples, n_classes)
        NaN for rows in no test part.
    served : str or None
        The model that answered, where an estimator can tell.
    """
    X = indexed(X)
    out = np.full((len(y), len(classes)), np.nan)
    served = None
    for train, test in splits:
        estimator = fit(_safe_indexing(X, train), train)
        held_out = _safe_indexing(X, test)
        out[test] = score(estimator, held_out, classes)
        served = served or served_model(estimator, held_out)
        if blank_unknown:
            out[test[~np.isin(y[test], estimator.classes_)]] = np.nan
    return out, served


def indexed(X: Any) -> Any:
    """Return `X` in a form whose rows can be taken by position."""
    (X,) = indexable(X)
    if isinstance(X, np.ndarray) and X.dtype.kind == "T":
        X = X.astype(object)  # numpy before 2.3.2 reads freed memory when it takes rows of these
    return X
