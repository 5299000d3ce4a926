"""Rows of a stream: a result for each in their order, without ever holding all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from skllm_calib.log_proba.parameters import check_count

__all__ = ["MappedStream", "PreparedStream", "ScoredBatch", "StreamMixin"]


class ScoredBatch(NamedTuple):
    """Log-probabilities of some rows of a stream.

    Attributes
    ----------
    log_proba : ndarray of shape (n_rows, n_classes)
        NaN for rows that could not be scored.
    failures : dict of int to str
        Why, where that is known, by the position in `log_proba`.
    served_model : str or None
        The model that answered, as its provider names it; None if that is not known.
    positions : sequence of int or None
        Which rows of the stream these are; None for those that follow.
    """

    log_proba: NDArray[np.float64]
    failures: dict[int, str]
    served_model: str | None = None
    positions: Sequence[int] | None = None


class PreparedStream(Protocol):
    """A classifier and a stream of rows, before it is asked."""

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What the scores will depend on, in plain values; None if that is not known."""

    def batches(self, *, as_they_come: bool = False) -> Iterator[ScoredBatch]:
        """Yield the scores of all rows.

        Parameters
        ----------
        as_they_come : bool, default=False
            True allows another order of the rows, which `positions` say, and leaves it to the
            caller what becomes of rows that fail: nothing is raised or warned of.
        """


@dataclass(frozen=True, eq=False)
class MappedStream:
    """A stream made of another one."""

    fingerprint: dict[str, Any] | None
    map_batches: Callable[[bool], Iterator[ScoredBatch]]

    def batches(self, *, as_they_come: bool = False) -> Iterator[ScoredBatch]:
        """Yield the scores of all rows."""
        return self.map_batches(as_they_come)


class StreamMixin:
    """Adds ``predict_iter`` and ``predict_proba_iter`` to a classifier with ``prepare_stream``."""

    classes_: NDArray[Any]

    def prepare_stream(self, X: Iterable[Any], *, n_ahead: int) -> PreparedStream:
        """Bring together the classifier and a stream of rows."""
        raise NotImplementedError

    def predict_proba_iter(
        self, X: Iterable[Any], *, n_ahead: int = 1000
    ) -> Iterator[NDArray[np.float64]]:
        """Yield the probabilities of one row after the other, in the order of the rows.

        For rows that never end, or are too many for memory: no more than `n_ahead` of them are held
        at a time. What was answered is in the cache, also when the caller stops early: the same
        rows are not paid for again.

        Parameters
        ----------
        X : iterable
            Yields texts, rows of a table (dict), or pieces of many rows (a list, an array, a
            DataFrame), all with the same columns.
        n_ahead : int, default=1000
            How many rows are read at most before the first of them has its result. More rows keep
            more requests under way; 1 waits for the answer to each row before it reads the next,
            as is right for a source that waits itself, such as a queue: while it does, results
            that are there wait, too.

        Yields
        ------
        ndarray of shape (n_classes,)
            Columns in the order of ``classes_``. With ``on_error="nan"``, a row that fails is NaN,
            and a warning at the end counts them; else its error is raised in its turn.

        Examples
        --------
        >>> from skllm_calib import LLMClassifier
        >>> from skllm_calib.backends import TestingBackend
        >>> backend = TestingBackend({"prize": {"ham": 0.2, "spam": 0.8}})
        >>> clf = LLMClassifier(backend, classes=["ham", "spam"], cache=None)
        >>> texts = (f"You won prize {i}!" for i in range(3))
        >>> for proba in clf.predict_proba_iter(texts):
        ...     print(proba)
        [0.2 0.8]
        [0.2 0.8]
        [0.2 0.8]
        """
        for proba in self._proba_batches(X, n_ahead):
            yield from proba

    def predict_iter(self, X: Iterable[Any], *, n_ahead: int = 1000) -> Iterator[Any]:
        """Yield the most probable label of one row after the other, in the order of the rows.

        Parameters
        ----------
        X, n_ahead
            As for :meth:`predict_proba_iter`.

        Yields
        ------
        label
            One of ``classes_``; None for a row that failed, with ``on_error="nan"``.

        Examples
        --------
        >>> from skllm_calib import LLMClassifier
        >>> from skllm_calib.backends import TestingBackend
        >>> backend = TestingBackend({"prize": {"ham": 0.2, "spam": 0.8}})
        >>> clf = LLMClassifier(backend, classes=["ham", "spam"], cache=None)
        >>> list(clf.predict_iter(["You won a prize!"]))
        ['spam']
        """
        for proba in self._proba_batches(X, n_ahead):
            labels = self.classes_.tolist()
            for row in proba:
                yield None if np.isnan(row).any() else labels[int(row.argmax())]

    def _proba_batches(self, X: Iterable[Any], n_ahead: int) -> Iterator[NDArray[np.float64]]:
        check_count(n_ahead, "n_ahead")
        for batch in self.prepare_stream(X, n_ahead=n_ahead).batches():
            proba = np.exp(batch.log_proba)
            yield proba / proba.sum(axis=1, keepdims=True)
