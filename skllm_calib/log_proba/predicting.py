"""Everything a classifier derives from its log-probabilities, written once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.log_proba.streams import StreamMixin

__all__ = ["LogProbaMixin"]


class LogProbaMixin(StreamMixin):
    """Adds ``predict_proba``, ``decision_function`` and ``predict`` to ``predict_log_proba``.

    A row that could not be scored is NaN in the log-probabilities and stays one: it is never given
    a label.
    """

    classes_: NDArray[Any]

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the log-probability of each class."""
        raise NotImplementedError

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class; rows sum to one.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        proba: NDArray[np.float64] = np.exp(self.predict_log_proba(X))
        proba /= proba.sum(axis=1, keepdims=True)
        return proba

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return normalised log-probabilities; for two classes their difference.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        log_proba = self.predict_log_proba(X)
        if log_proba.shape[1] == 2:
            return np.asarray(log_proba[:, 1] - log_proba[:, 0])
        return log_proba

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            With ``on_error="nan"``, failed rows are None (and the array is of objects).
        """
        log_proba = self.predict_log_proba(X)
        failed = np.asarray(np.isnan(log_proba).any(axis=1))
        best = np.where(failed[:, None], 0.0, log_proba).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        if failed.any():
            labels = labels.astype(object)
            labels[failed] = None
        return labels
