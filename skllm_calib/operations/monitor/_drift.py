"""Does a stream without labels still look like the reference? Ranks, and bets on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from skllm_calib.operations.monitor._detectors import EDetector

__all__ = ["ConfidenceDrift", "LabelDrift", "uniform_draws"]

Floats = NDArray[np.float64]

# Borders between confidences, evenly spaced in log-odds. They must not depend on the reference, or
# its rows would not be exchangeable with those to come; there are enough of them to lose nothing.
_BORDERS = expit(np.linspace(-12, 12, 481))
# Strength of the bets on ranks that lean to one side, or to both ends.
_STRENGTHS = np.array([0.25, 0.75])
# By what the odds of a predicted label are taken to have changed.
_ODDS = np.array([1 / 3, 1 / 1.5, 1.5, 3.0])


def uniform_draws(seed: int, stream: int, start: int, n_rows: int) -> Floats:
    """Return the uniform draws of rows ``start`` and following.

    They depend on the number of the row alone: not on how rows come in batches, nor on whether the
    watch was saved and resumed in between.
    """
    bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    raw = bits.advance(start).random_raw(4 * n_rows)[::4]  # a step of the counter gives four
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53)


class _Ranks:
    """Rank of each new row among all rows so far, ties broken at random.

    While rows are exchangeable, with each other and with the reference, these ranks are
    independent and uniform on [0, 1], exactly and for a reference of any size (Vovk, Gammerman and
    Shafer 2005, Theorem 8.2). Rows are known by the number of their bin, so that the memory does
    not grow.
    """

    def __init__(self, counts: ArrayLike) -> None:
        self.counts = np.array(counts, dtype=np.float64)

    def take(self, number: int, draw: float) -> float:
        self.counts[number] += 1
        below = float(self.counts[:number].sum())
        return (below + draw * float(self.counts[number])) / float(self.counts.sum())


class ConfidenceDrift:
    """Watch the distribution of the confidences: lower, higher, nearer to the middle or the ends.

    Parameters
    ----------
    counts : array-like of shape (n_bins,)
        Reference rows in each bin.
    run_length : float
        Bound on the average run length.
    """

    stream = 0

    def __init__(self, counts: ArrayLike, run_length: float) -> None:
        self._ranks = _Ranks(counts)
        self.detector = EDetector(4 * _STRENGTHS.size, run_length, n_marks=2)

    @classmethod
    def from_reference(
        cls, confidence: Floats, weight: Floats, run_length: float
    ) -> ConfidenceDrift:
        """Count the reference rows."""
        numbers = np.searchsorted(_BORDERS, confidence, side="right")
        return cls(np.bincount(numbers, _as_rows(weight), _BORDERS.size + 1), run_length)

    def rank(self, confidence: float, draw: float) -> float:
        """Return the rank of a confidence among all so far, itself included."""
        return self._ranks.take(int(np.searchsorted(_BORDERS, confidence, side="right")), draw)

    def step(self, confidence: float, draw: float, totals: ArrayLike) -> bool:
        """Take a confidence, and ``[row, sum of confidences]`` before it."""
        side = 2 * self.rank(confidence, draw) - 1
        # Legendre polynomials: zero on average under uniform ranks, and at most one.
        ends = (3 * side * side - 1) / 2
        bets = np.concatenate([_STRENGTHS * side, _STRENGTHS * ends])
        return self.detector.step(np.concatenate([1 + bets, 1 - bets]), totals)

    def to_dict(self) -> dict[str, Any]:
        return {
            "counts": self._ranks.counts.tolist(),
            "detector": self.detector.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> ConfidenceDrift:
        detector = EDetector.from_dict(state["detector"])
        watch = cls(state["counts"], detector.threshold)
        watch.detector = detector
        return watch


class LabelDrift:
    """Watch the shares of the predicted labels: of each, more or less often than in the reference.

    Parameters
    ----------
    shares : array-like of shape (n_classes,)
        Shares of the predicted labels, all positive, on which the bets are built.
    counts : array-like of shape (n_classes,)
        Reference rows with each predicted label, others than those behind `shares`.
    run_length : float
        Bound on the average run length.
    """

    stream = 1

    def __init__(self, shares: ArrayLike, counts: ArrayLike, run_length: float) -> None:
        self.shares = np.array(shares, dtype=np.float64)
        self._ranks = _Ranks(counts)
        self._borders = np.cumsum(self.shares)[:-1]
        n_classes = self.shares.size
        self.detector = EDetector(n_classes * _ODDS.size, run_length, n_marks=2)
        # Ranks of label k fall on the k-th interval. A bet puts another share there, and takes the
        # rest of the unit interval down or up as it must.
        odds = self.shares / (1 - self.shares) * _ODDS[:, None]
        other = odds / (1 + odds)
        inside, outside = other / self.shares, (1 - other) / (1 - self.shares)
        here = np.eye(n_classes, dtype=bool)[:, None, :]  # interval, (odds, label)
        self._factors = np.where(here, inside, outside).reshape(n_classes, -1)

    @classmethod
    def from_reference(
        cls, predicted: NDArray[np.int64], weight: Floats, n_classes: int, run_length: float
    ) -> LabelDrift:
        """Count the reference rows; a label that was never predicted gets half a row as share.

        Every other row builds the bets, the rest are ranked with the rows to come: bets built on
        rows that are ranked too would not be fair.
        """
        rows = _as_rows(weight)
        built = np.bincount(predicted[::2], rows[::2], n_classes) + 0.5
        return cls(
            built / built.sum(), np.bincount(predicted[1::2], rows[1::2], n_classes), run_length
        )

    def step(self, predicted: int, draw: float, row: int, seen: Floats) -> bool:
        """Take the number of a predicted label, the row, and the counts of labels before it."""
        rank = self._ranks.take(predicted, draw)
        interval = int(np.searchsorted(self._borders, rank, side="right"))
        totals = np.empty((self._factors.shape[1], 2))
        totals[:, 0] = row
        totals[:, 1] = np.tile(seen, _ODDS.size)
        return self.detector.step(self._factors[interval], totals)

    @property
    def leader(self) -> int:
        """Number of the label with the best case for a change."""
        return self.detector.leader % self.shares.size

    def to_dict(self) -> dict[str, Any]:
        return {
            "shares": self.shares.tolist(),
            "counts": self._ranks.counts.tolist(),
            "detector": self.detector.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> LabelDrift:
        detector = EDetector.from_dict(state["detector"])
        watch = cls(state["shares"], state["counts"], detector.threshold)
        watch.detector = detector
        return watch


def _as_rows(weight: Floats) -> Floats:
    """Scale weights so that they sum to the number of equal rows that would tell as much.

    With unequal weights the ranks are uniform up to the noise of the weights only.
    """
    total = float(weight.sum())
    return weight * (total / float(weight @ weight))
