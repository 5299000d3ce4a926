"""The contract of every calibrator, and all of the checks they share."""

from __future__ import annotations

import math
import warnings
from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skllm_calib.log_proba.numerics import (
    LOWEST_LOG_PROBA,
    Codes,
    Floats,
    floor_and_normalise,
    log_normalise,
)

__all__ = ["BaseCalibrator", "Parameters"]

Parameters = dict[str, float | list[float]]


class BaseCalibrator(ClassifierMixin, BaseEstimator, metaclass=ABCMeta):  # type: ignore[misc]
    """A classifier whose features are the log-probabilities of its own classes.

    The matrix ``log_proba`` has one row an item and one column a class, in the sorted order of
    the classes. A calibrator knows nothing about where it came from. Rows need not be
    normalised: a log-softmax is applied first, after lifting everything that lies more than 25
    nats below the best class of its row (minus infinity above all) to those 25 nats.

    Subclasses write `_fit`, `_transform` and `parameters_`, and may rely on clean input.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order, also those that no calibration row had.
    n_features_in_ : int
        Number of columns, which is the number of classes.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    classes_: NDArray[Any]
    n_features_in_: int

    @abstractmethod
    def _fit(self, log_proba: Floats, codes: Codes, weight: Floats) -> None:
        """Learn from normalised rows (n, K), class numbers (n,) and positive weights (n,)."""

    @abstractmethod
    def _transform(self, log_proba: Floats) -> Floats:
        """Map normalised rows (n, K) to calibrated logarithms (n, K), each row up to a constant."""

    @property
    @abstractmethod
    def parameters_(self) -> Parameters:
        """Fitted parameters as plain numbers and lists, ready for JSON."""

    def fit(
        self,
        log_proba: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Learn the map from scores to probabilities.

        Parameters
        ----------
        log_proba : array-like of shape (n_samples, n_classes)
            Log-probabilities, columns in the sorted order of the classes.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts: weight 2 is the same as two copies, weight 0 the same as
            leaving the row out. As the priors count in rows too, weights should not be rescaled
            to sum to one.
        classes : array-like of shape (n_classes,), default=None
            The classes in sorted order. Needed when some of them are absent from `y`; they keep
            a probability. By default the distinct values of `y`.

        Returns
        -------
        self : object
            The fitted calibrator.
        """
        self._validate_params()
        scores = self._check_scores(log_proba, reset=True)
        labels = _as_labels(y, len(scores))
        class_array = _check_classes(classes, labels, scores.shape[1])
        codes = _encode(labels, class_array)
        weight = _check_weight(sample_weight, len(scores))
        counted = weight > 0
        if not counted.all():
            scores, codes, weight = scores.copy(), codes[counted], weight[counted]
            scores[~counted] = 0.0  # rows of weight zero are not asked about
        _check_rows(scores)
        if len(codes) < len(scores):
            scores = scores[counted]
        _warn_if_probabilities(scores)
        return self._fit_encoded(floor_and_normalise(scores), codes, weight, class_array)

    def _fit_encoded(
        self, log_proba: Floats, codes: Codes, weight: Floats, classes: NDArray[Any]
    ) -> Self:
        """Fit on data that has been checked already (cross-validation does so many times)."""
        self.classes_ = classes
        self.n_features_in_ = log_proba.shape[1]
        self._fit(log_proba, codes, weight)
        return self

    def predict_log_proba(self, log_proba: ArrayLike) -> Floats:
        """Return calibrated log-probabilities, always finite.

        Parameters
        ----------
        log_proba : array-like of shape (n_samples, n_classes)
            Log-probabilities, columns in the order of `classes_`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Calibrated log-probabilities.
        """
        check_is_fitted(self)
        scores = self._check_scores(log_proba, reset=False)
        _check_rows(scores)
        out = log_normalise(self._transform(floor_and_normalise(scores)))
        return np.maximum(out, LOWEST_LOG_PROBA, out=out)

    def predict_proba(self, log_proba: ArrayLike) -> Floats:
        """Return calibrated probabilities; rows sum to one and no entry is zero.

        Parameters
        ----------
        log_proba : array-like of shape (n_samples, n_classes)
            Log-probabilities, columns in the order of `classes_`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Calibrated probabilities.
        """
        proba = self.predict_log_proba(log_proba)
        np.exp(proba, out=proba)
        proba /= (proba @ np.ones(proba.shape[1]))[:, None]  # several times faster than sum(axis=1)
        return proba

    def predict(self, log_proba: ArrayLike) -> NDArray[Any]:
        """Return the most probable class after calibration.

        Parameters
        ----------
        log_proba : array-like of shape (n_samples, n_classes)
            Log-probabilities, columns in the order of `classes_`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        best = self.predict_log_proba(log_proba).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _check_scores(self, log_proba: ArrayLike, *, reset: bool) -> Floats:
        scores = validate_data(
            self, X=log_proba, reset=reset, dtype=np.float64, ensure_all_finite=False
        )
        return np.asarray(scores, dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The number of columns must be the number of classes, which no data of scikit-learn's
        # common test suite respects. The contract is tested by hand instead.
        tags.input_tags.two_d_array = False
        return tags


def _as_labels(y: ArrayLike, n_rows: int) -> NDArray[Any]:
    """Return labels as a plain 1-D array, whatever container and index they came in."""
    labels = _as_array(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"y must be one-dimensional, got shape {labels.shape}.")
    if len(labels) != n_rows:
        raise ValueError(f"log_proba has {n_rows} rows but y has {len(labels)} labels.")
    if labels.dtype.kind in "biuSU":
        return labels
    missing = [row for row, label in enumerate(labels.tolist()) if _is_missing(label)]
    if missing:
        raise ValueError(f"y has no label in row {missing[0]} ({len(missing)} such rows).")
    return labels


def _as_array(values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    # NumPy would write the missing label of ["ham", nan] as the word "nan"; and its strings of
    # variable width are refused by most of scikit-learn.
    mixed = (
        array.dtype.kind == "U"
        and isinstance(values, list | tuple)
        and not all(isinstance(value, str) for value in values)
    )
    return np.array(values, dtype=object) if mixed or array.dtype.kind == "T" else array


def _is_missing(label: object) -> bool:
    # pandas marks a missing value with its own singletons, recognised without importing it.
    is_nan = isinstance(label, float) and math.isnan(label)
    return label is None or is_nan or type(label).__name__ in {"NAType", "NaTType"}


def _check_classes(classes: ArrayLike | None, labels: NDArray[Any], n_columns: int) -> NDArray[Any]:
    given = labels if classes is None else _as_array(classes)
    if given.ndim != 1:
        raise ValueError(f"classes must be one-dimensional, got shape {given.shape}.")
    try:
        unique = np.unique(given)
    except TypeError as error:
        raise ValueError("The labels cannot be sorted: they are of different types.") from error
    if classes is None:
        if len(unique) != n_columns:
            raise ValueError(
                f"y has {len(unique)} distinct labels but log_proba has {n_columns} columns. Pass "
                "classes= with one entry a column, in sorted order."
            )
        return np.asarray(unique)
    if len(given) != n_columns:
        raise ValueError(f"classes has {len(given)} entries, log_proba {n_columns} columns.")
    if len(unique) != len(given) or not np.array_equal(unique, given):
        # Sorting here would silently attach columns to the wrong classes.
        raise ValueError(
            "classes must be sorted and without repetition, as the columns of log_proba are "
            f"taken in sorted order; expected {unique.tolist()}, got {given.tolist()}."
        )
    return np.asarray(unique)


def _encode(labels: NDArray[Any], classes: NDArray[Any]) -> Codes:
    kinds = labels.dtype.kind, classes.dtype.kind
    if kinds == ("U", "U") or all(kind in "biuf" for kind in kinds):
        codes = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
        if np.array_equal(classes[codes], labels):
            return codes
    number_of = {label: number for number, label in enumerate(classes.tolist())}
    try:
        return np.array([number_of[label] for label in labels.tolist()], dtype=np.intp)
    except KeyError as error:
        raise ValueError(
            f"y has the label {error.args[0]!r}, which is not among the classes {classes.tolist()}."
        ) from None


def _check_weight(sample_weight: ArrayLike | None, n_rows: int) -> Floats:
    if sample_weight is None:
        return np.ones(n_rows)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), got {weight.shape}.")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("sample_weight must be finite and not negative.")
    if not weight.any():
        raise ValueError("Every sample_weight is zero: nothing to learn from.")
    return weight


def _check_rows(scores: Floats) -> None:
    """Refuse rows without usable numbers, by name."""
    if np.isfinite(scores.sum()):  # one glance at good input
        return
    for bad, problem in (
        (np.isnan(scores).any(axis=1), "contains NaN"),
        (np.isposinf(scores).any(axis=1), "contains plus infinity"),
        (np.isneginf(scores).all(axis=1), "has no finite entry"),
    ):
        if bad.any():
            raise ValueError(
                f"log_proba: row {bad.argmax()} {problem} ({bad.sum()} such rows). Leave "
                "such rows out or give them a fallback before calibrating."
            )


def _warn_if_probabilities(scores: Floats) -> None:
    n_columns = scores.shape[1]
    if n_columns > 1 and scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1.0, atol=1e-6):
        warnings.warn(
            "log_proba looks like probabilities: no entry is negative and every row sums to one. "
            "Pass their logarithms.",
            UserWarning,
            stacklevel=3,
        )
