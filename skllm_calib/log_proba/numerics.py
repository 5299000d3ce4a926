"""Small numerical tools that every calibrator shares; nothing here knows about estimators."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

FLOOR_NATS = 25.0
"""How far below the best class of its row a log-probability may lie (e**-25 is about 1e-11)."""

_LAST_NATS = 0.01  # of the 25, for what lies deeper

LOWEST_LOG_PROBA = -700.0
"""No output lies below it, so that its exponential is a positive, normal float64."""


_BLOCK = 1 << 15  # entries, so that what is computed on the way stays in the cache


def blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut the rows of a matrix of this shape into pieces that fit the cache."""
    size = max(_BLOCK // max(shape[1], 1), 1)
    return (slice(start, start + size) for start in range(0, shape[0], size))


def log_normalise(scores: Floats) -> Floats:
    """Shift every row, or a single row of shape (K,), so that its exponentials sum to one."""
    if scores.ndim == 1:
        return np.asarray(scores - np.logaddexp.reduce(scores), dtype=np.float64)
    out = np.empty(scores.shape)
    for rows in blocks(scores.shape):
        out[rows] = _log_normalised(scores[rows].T.copy()).T
    return out


def floor_and_normalise(scores: Floats) -> Floats:
    """Lift entries to at most 25 nats below the best of their row, then normalise.

    A label outside the list of alternatives a server returned, or one ruled out by a grammar,
    comes as minus infinity. It is unlikely, not impossible, and one such row must not decide
    alone about the temperature. Minus infinity becomes 25 nats, entries down to 24.99 stay as they
    are, and what lies deeper shares the last hundredth in its order: no two scores become equal.
    """
    out = np.empty(scores.shape)
    for rows in blocks(scores.shape):
        part = scores[rows].T.copy()
        part -= part.max(axis=0)
        low = part < _LAST_NATS - FLOOR_NATS
        if low.any():
            beyond = _LAST_NATS - FLOOR_NATS - part[low]
            part[low] = _LAST_NATS / (1.0 + np.log1p(beyond)) - FLOOR_NATS
        out[rows] = _log_normalised(part).T
    return out


def spread_of(scores: Floats, weight: Floats) -> float:
    """Return by what scores are to be divided, so that 25 nats hold the distances of most rows.

    Log-probabilities of a language model stay within that, and the answer is 1. The margins of
    other classifiers have a unit of their own, and may be hundreds of thousands: they are
    divided so that in nine rows of ten the best class leads by 25 nats at most.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes)
    weight : ndarray of shape (n_samples,)
        A row of weight two counts as two rows.
    """
    if scores.shape[1] < 2:
        return 1.0
    top = np.partition(scores, -2, axis=1)[:, -2:]
    lead = top[:, 1] - top[:, 0]
    known = np.isfinite(lead)
    if not known.any() or lead[known].max() <= FLOOR_NATS:
        return 1.0
    order = lead[known].argsort()
    reached = np.cumsum(weight[known][order])
    place = np.searchsorted(reached, 0.9 * reached[-1] * (1 - 1e-12))
    return max(1.0, float(lead[known][order][place]) / FLOOR_NATS)


def _log_normalised(columns: Floats) -> Floats:
    """Normalise rows that lie on their side (K, n), in place: numpy is fast along long axes."""
    columns -= columns.max(axis=0)
    columns -= np.log(np.exp(columns).sum(axis=0))
    return columns


def one_vs_rest_log_odds(log_proba: Floats) -> Floats:
    """Return log p - log(1 - p) of every entry of normalised log-probabilities (n, K).

    ``log1p(-p)`` is exact enough for all but the largest entry of a row, whose complement is
    summed from the other entries instead: 1 - p itself would lose every digit near p = 1.
    """
    rows = np.arange(len(log_proba))
    top = log_proba.argmax(axis=1)
    proba = np.exp(log_proba)
    proba[rows, top] = 0.0
    rest = np.log1p(-proba)
    # With a single class nothing is left over; any number below the floor will do.
    others = np.maximum(proba.sum(axis=1), np.exp(-2 * FLOOR_NATS))
    rest[rows, top] = np.log(others)
    return np.asarray(log_proba - rest, dtype=np.float64)


def warn_at_bound(name: str, value: float, bounds: tuple[float, float]) -> None:
    """Warn when a search ended where it was not allowed to go further.

    A temperature at its upper bound, for one, means flat answers with a flattering calibration
    error, so that the user has to be told.
    """
    low, high = bounds
    if not np.isclose(value, bounds, rtol=1e-6, atol=0).any():
        return
    warnings.warn(
        f"{name} ended at the edge of its search range, {value:.4g} of [{low:.4g}, {high:.4g}]: "
        "the scores may say nothing about the labels, the labels may be in another order than "
        "the columns, or there are too few of them.",
        ConvergenceWarning,
        stacklevel=5,
    )
