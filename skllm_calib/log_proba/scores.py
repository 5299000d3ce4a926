"""Log-probabilities of any classifier, of no row by a model that has seen it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing, indexable

from skllm_calib.log_proba.folds import Split
from skllm_calib.log_proba.numerics import log_normalise
from skllm_calib.log_proba.streams import PreparedStream, ScoredBatch
from skllm_calib.utils.progress import stage

__all__ = [
    "Explained",
    "Prepared",
    "Scores",
    "aligned",
    "cross_fitted",
    "indexed",
    "log_proba_of",
    "needs_cross_fitting",
    "prepare_rows",
    "prepare_stream",
    "scores_of",
    "sum_of",
    "usage_of",
]


class Scores(NamedTuple):
    """Log-probabilities of rows, and what gave them.

    Attributes
    ----------
    log_proba : ndarray of shape (n_samples, n_classes)
        NaN for rows that could not be scored.
    served_model : str or None
        The model that answered, as its provider names it; None if that is not known.
    off_label : ndarray of shape (n_samples,) or None
        Part of the evidence on each row that fell on no label; None if that is not known.
    usage : object or None
        What models used that are not there any more; what can be added up.
    """

    log_proba: NDArray[np.float64]
    served_model: str | None = None
    off_label: NDArray[np.float64] | None = None
    usage: Any = None


class Explained(NamedTuple):
    """One record per row, in plain values, and the model that answered where it is known."""

    records: list[dict[str, Any]]
    served_model: str | None = None


class Prepared(Protocol):
    """A classifier and the rows of one call, before it is asked."""

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        """What the scores will depend on, in plain values; None if that is not known."""

    def score(self) -> Scores:
        """Return the scores."""

    def explain(self) -> Explained:
        """Return one record per row."""


@dataclass(frozen=True, eq=False)
class _AnyPrepared:
    """Rows, and a classifier that has no ``prepare_rows`` of its own."""

    estimator: Any
    X: Any

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        return getattr(self.estimator, "fingerprint_", None)

    def score(self) -> Scores:
        return Scores(_any_log_proba(self.estimator, self.X))

    def explain(self) -> Explained:
        return Explained(self.estimator.explain(self.X))


def prepare_rows(estimator: Any, X: Any) -> Prepared:
    """Return rows ready to be scored by a classifier, which has not been asked yet."""
    if hasattr(estimator, "prepare_rows"):
        return estimator.prepare_rows(X)  # type: ignore[no-any-return]
    return _AnyPrepared(estimator, X)


@dataclass(frozen=True, eq=False)
class _AnyStream:
    """A stream of rows, and a classifier that has no ``prepare_stream`` of its own."""

    estimator: Any
    rows: Iterator[Any]
    n_ahead: int

    @property
    def fingerprint(self) -> dict[str, Any] | None:
        return getattr(self.estimator, "fingerprint_", None)

    def batches(self, *, as_they_come: bool = False) -> Iterator[ScoredBatch]:
        for piece in self._pieces():
            scores = prepare_rows(self.estimator, piece).score()
            yield ScoredBatch(scores.log_proba, {}, scores.served_model)

    def _pieces(self) -> Iterator[Any]:
        rows: list[Any] = []
        for item in self.rows:
            is_piece = _holds_rows(item)
            if not is_piece:
                rows.append(item)
            if rows and (is_piece or len(rows) == self.n_ahead):
                yield rows
                rows = []
            if is_piece:
                yield item
        if rows:
            yield rows


def _holds_rows(item: Any) -> bool:
    """Tell whether an item of a stream is a table or a list of texts, and no row."""
    if isinstance(item, str | bytes | dict):
        return False
    if hasattr(item, "columns") or hasattr(item, "column_names") or getattr(item, "ndim", 1) > 1:
        return True
    return isinstance(item, Iterable) and isinstance(next(iter(item), None), str | dict)


def prepare_stream(estimator: Any, X: Iterable[Any], *, n_ahead: int) -> PreparedStream:
    """Return a stream of rows ready to be scored by a classifier, which has not been asked yet."""
    if hasattr(estimator, "prepare_stream"):
        return estimator.prepare_stream(X, n_ahead=n_ahead)  # type: ignore[no-any-return]
    return _AnyStream(estimator, iter(X), n_ahead)


def needs_cross_fitting(estimator: Any) -> bool:
    """Return whether rows seen in ``fit`` may score too well; of unknown classifiers, yes."""
    if isinstance(estimator, FrozenEstimator):
        return False
    own = getattr(estimator, "needs_cross_fitting", None)
    return own is None or bool(own())


def scores_of(estimator: Any, X: Any, classes: NDArray[Any]) -> Scores:
    """Return scores from the best that a classifier offers.

    Parameters
    ----------
    estimator : classifier
        Fitted; with ``predict_proba`` or ``decision_function``.
    X : array-like of shape (n_samples,) or (n_samples, n_features)
    classes : ndarray of shape (n_classes,)
        All classes, sorted, at least those of the estimator.

    Returns
    -------
    Scores
        With minus infinity for classes that the estimator does not know.

    Raises
    ------
    TypeError
        If the estimator offers no scores.
    """
    return aligned(prepare_rows(estimator, X).score(), estimator.classes_, classes)


def aligned(scores: Scores, known: ArrayLike, classes: NDArray[Any]) -> Scores:
    """Return scores with a column for each of `classes`, of which an estimator has `known`."""
    known = np.asarray(known)
    if len(known) == len(classes):
        return scores
    full = np.full((len(scores.log_proba), len(classes)), -np.inf)
    full[:, np.searchsorted(classes, known)] = scores.log_proba
    return scores._replace(log_proba=full)


def log_proba_of(estimator: Any, X: Any, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the log-probabilities of :func:`scores_of`."""
    return scores_of(estimator, X, classes).log_proba


def _any_log_proba(estimator: Any, X: Any) -> NDArray[np.float64]:
    # Forests give exact zeros; the calibrator knows what to do with minus infinity.
    with np.errstate(divide="ignore"):
        if hasattr(estimator, "predict_log_proba"):
            found = np.asarray(estimator.predict_log_proba(X), dtype=np.float64)
        elif hasattr(estimator, "predict_proba"):
            found = np.log(np.asarray(estimator.predict_proba(X), dtype=np.float64))
        else:
            found = None
    if found is not None:
        if hasattr(estimator, "decision_function") and not np.isfinite(found).all():
            return _saturated(found, estimator, X)
        return found
    if hasattr(estimator, "decision_function"):
        return _margins(estimator, X)
    raise TypeError(
        f"{type(estimator).__name__} has neither predict_proba nor decision_function: there are no "
        "scores to calibrate"
    )


def _margins(estimator: Any, X: Any) -> NDArray[np.float64]:
    margin = np.asarray(estimator.decision_function(X), dtype=np.float64)
    if margin.ndim == 1:
        margin = np.column_stack([np.zeros_like(margin), margin])
    return log_normalise(margin)


def _saturated(log_proba: NDArray[np.float64], estimator: Any, X: Any) -> NDArray[np.float64]:
    """Return the margins in place of log-probabilities that came from probabilities of zero.

    Where a probability is too small for a number, its logarithm is minus infinity, and rows are
    equal whose margins are not. Only where the finite entries show that both mean the same.
    """
    margins = _margins(estimator, X)
    known = np.isfinite(log_proba)
    same = margins.shape == log_proba.shape and np.allclose(
        margins[known], log_proba[known], rtol=1e-6, atol=1e-6
    )
    return margins if same else log_proba


def cross_fitted(
    fit: Callable[[Any, NDArray[np.intp]], Any],
    X: Any,
    y: NDArray[Any],
    classes: NDArray[Any],
    splits: Sequence[Split],
    *,
    score: Callable[[Any, Any, NDArray[Any]], Scores] = scores_of,
    blank_unknown: bool = True,
) -> Scores:
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
    score : callable, default=scores_of
        Gets a fitted estimator, rows and all classes; returns the scores.
    blank_unknown : bool, default=True
        Whether rows are NaN whose class the training part lacks. To a calibrator such a model says
        nothing of them; to a judge of its answers they are errors.

    Returns
    -------
    Scores
        NaN for rows in no test part.
    """
    X = indexed(X)
    out = np.full((len(y), len(classes)), np.nan)
    off_label, knows_off_label = np.full(len(y), np.nan), False
    served, used = None, []
    for k, (train, test) in enumerate(splits):
        with stage(f"fold {k + 1} of {len(splits)}"):
            estimator = fit(_safe_indexing(X, train), train)
            scores = score(estimator, _safe_indexing(X, test), classes)
        if not isinstance(estimator, FrozenEstimator):  # that one is not of this fold alone
            used.append(usage_of(estimator))
        out[test] = scores.log_proba
        served = served or scores.served_model
        if scores.off_label is not None:
            off_label[test], knows_off_label = scores.off_label, True
        if blank_unknown:
            out[test[~np.isin(y[test], estimator.classes_)]] = np.nan
    return Scores(out, served, off_label if knows_off_label else None, sum_of(used))


def usage_of(estimator: Any) -> Any:
    """Return what a classifier has used, None if it does not know: what can be added up."""
    return getattr(estimator, "usage_", None)


def sum_of(usages: Iterable[Any]) -> Any:
    """Return the sum of what several classifiers have used; None where none of them knows."""
    known = [usage for usage in usages if usage is not None]
    return reduce(operator.add, known) if known else None


def indexed(X: Any) -> Any:
    """Return `X` in a form whose rows can be taken by position."""
    (X,) = indexable(X)
    if isinstance(X, np.ndarray) and X.dtype.kind == "T":
        X = X.astype(object)  # numpy before 2.3.2 reads freed memory when it takes rows of these
    return X
