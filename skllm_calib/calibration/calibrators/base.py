"""The contract of every calibrator, and all of the checks they share."""

from __future__ import annotations

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
    spread_of,
)
from skllm_calib.log_proba.tables import column_names, column_order
from skllm_calib.log_proba.validation import check_log_input, check_log_proba

__all__ = ["BaseCalibrator", "Parameters"]

Parameters = dict[str, float | list[float]]


class BaseCalibrator(ClassifierMixin, BaseEstimator, metaclass=ABCMeta):  # type: ignore[misc]
    """A classifier whose features are the log-probabilities of its own classes.

    The matrix ``log_proba`` has one row per item and one column per class, in the sorted order
    of the classes. A calibrator knows nothing about where it came from. Rows need not be
    normalised: a log-softmax is applied first. Nothing may lie more than 25 nats below the best
    class of its row: minus infinity is lifted to there, deeper finite scores to hardly above it, in
    their order. The margins of other classifiers may be any size: they are divided by
    ``score_scale_`` first, and so keep their order and their proportions.

    Subclasses write `_fit`, `_transform` and `parameters_`, and may rely on clean input.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order, also those that no calibration row had.
    n_features_in_ : int
        Number of columns, which is the number of classes.
    score_scale_ : float
        By what scores are divided before anything else: 1 for log-probabilities, more where the
        best class leads by more than 25 in over a tenth of the rows.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    classes_: NDArray[Any]
    n_features_in_: int
    score_scale_: float

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
            Log-probabilities, columns in the sorted order of the classes; the columns of a
            DataFrame that are named by the classes are taken by name.
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

        Raises
        ------
        InvalidInput
            If an input does not fit; the error knows parameter, row and value.
        """
        self._validate_params()
        checked = check_log_input(log_proba, y, classes=classes, sample_weight=sample_weight)
        self._check_names(log_proba, checked.classes, reset=True)
        scores, weight = checked.proba, np.ascontiguousarray(checked.weight)
        _warn_if_probabilities(scores)
        _warn_if_one_class(checked.codes, checked.classes)
        self.score_scale_ = spread_of(scores, weight)
        scores = floor_and_normalise(scores / self.score_scale_)
        return self._fit_encoded(scores, checked.codes, weight, checked.classes)

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
        out = log_normalise(self._transform(self._read(log_proba)))
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

    def _read(self, log_proba: ArrayLike) -> Floats:
        """Return rows to be calibrated, checked and normalised."""
        check_is_fitted(self)
        self._check_names(log_proba, self.classes_, reset=False)
        scores = check_log_proba(log_proba, classes=self.classes_, normalise=False)
        # Calibrators of earlier releases have no scale.
        return floor_and_normalise(scores / getattr(self, "score_scale_", 1.0))

    def _check_names(self, log_proba: Any, classes: NDArray[Any], *, reset: bool) -> None:
        """Let scikit-learn compare names of columns, unless they are those of the classes."""
        names = column_names(log_proba)
        if column_order(names, classes.tolist(), "log_proba") is None:
            # scikit-learn cannot compare names of which two are alike.
            alike = names is not None and len(set(names)) < len(names)
            X = np.asarray(log_proba) if alike else log_proba
            validate_data(self, X=X, reset=reset, skip_check_array=True, ensure_2d=False)
        elif reset and hasattr(self, "feature_names_in_"):  # of an earlier fit
            del self.feature_names_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The number of columns must be the number of classes, which no data of scikit-learn's
        # common test suite respects. The contract is tested by hand instead.
        tags.input_tags.two_d_array = False
        return tags


def _warn_if_probabilities(scores: Floats) -> None:
    n_columns = scores.shape[1]
    if n_columns > 1 and scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1.0, atol=1e-6):
        warnings.warn(
            "log_proba looks like probabilities: no entry is negative and every row sums to one. "
            "Pass their logarithms.",
            UserWarning,
            stacklevel=3,
        )


def _warn_if_one_class(codes: Codes, classes: NDArray[Any]) -> None:
    if len(classes) > 1 and codes.min() == codes.max():
        warnings.warn(
            f"every row ({len(codes)} in all) has the label {classes[codes[0]].item()!r}: nothing "
            "is learned about the other classes, and how good the probabilities are is not known. "
            "Add rows of every class.",
            UserWarning,
            stacklevel=3,
        )
