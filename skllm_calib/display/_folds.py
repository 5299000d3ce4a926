"""What the estimators of a cross-validation say of the rows that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing, indexable

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.label_arrays import label_array


class HeldOut(NamedTuple):
    """Held-out probabilities of all folds, in the order of the folds.

    ``proba`` (n, K) belongs to the rows ``row`` (n,) of the data; ``fold`` (n,) numbers the fold;
    ``classes`` (K,) names the columns.
    """

    proba: NDArray[np.float64]
    row: NDArray[np.int64]
    fold: NDArray[np.int64]
    classes: NDArray[Any]


def held_out_predictions(cv_results: Mapping[str, Any], X: Any, y: ArrayLike) -> HeldOut:
    """Ask the estimator of each fold about the rows that were held out from it.

    Parameters
    ----------
    cv_results : dict
        What :func:`sklearn.model_selection.cross_validate` returns with ``return_estimator=True``
        and ``return_indices=True``.
    X : array-like of shape (n_samples, ...)
        The rows that were cross-validated.
    y : array-like of shape (n_samples,)
        Their labels.

    Returns
    -------
    held_out : HeldOut
        One entry for each row that was held out.

    Raises
    ------
    ValueError
        If estimators or indices are missing or belong to other data, a row was held out twice, or
        the estimators know different classes.
    """
    missing = [key for key in ("estimator", "indices") if key not in cv_results]
    if missing:
        raise InvalidInput(
            f"cv_results lacks {missing}: call cross_validate with return_estimator=True and "
            f"return_indices=True; it has {sorted(cv_results)}.",
            "cv_results",
        )
    (X, y) = indexable(X, y)
    estimators, tests = cv_results["estimator"], cv_results["indices"]["test"]
    row = np.concatenate([np.asarray(test) for test in tests]).astype(np.int64)
    n_rows = len(label_array(y))
    if row.max() >= n_rows:
        raise InvalidInput(
            f"cv_results holds out row {row.max()}, but y has {n_rows} rows: pass the X and y that "
            "were cross-validated.",
            "y",
            value=n_rows,
        )
    times = np.bincount(row)
    if times.max() > 1:
        # The same row twice would count as two, and every band and interval would be too narrow.
        raise InvalidInput(
            f"row {times.argmax()} was held out {times.max()} times: use splits whose test sets do "
            "not overlap, such as StratifiedKFold.",
            "cv_results",
            int(times.argmax()),
            int(times.max()),
        )
    classes = np.asarray(estimators[0].classes_)
    for number, estimator in enumerate(estimators):
        if not np.array_equal(estimator.classes_, classes):
            raise InvalidInput(
                f"the estimator of fold {number} knows {np.asarray(estimator.classes_).tolist()}, "
                f"that of fold 0 {classes.tolist()}: stratify the folds or declare the classes to "
                "the estimator.",
                "cv_results",
            )
    proba = [
        np.asarray(estimator.predict_proba(_safe_indexing(X, test)), dtype=np.float64)
        for estimator, test in zip(estimators, tests, strict=True)
    ]
    fold = np.repeat(np.arange(len(tests)), [len(test) for test in tests])
    return HeldOut(np.concatenate(proba), row, fold, classes)
