"""Two detectors of a change that take one number per row and estimate when it began."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Cusum", "EDetector", "residual_bets"]

Floats = NDArray[np.float64]

# Bets on the scaled residual. Small ones find small drifts in the end, large ones find large drifts
# soon; the mean of them all costs a factor of eight, which is about twenty rows of a clear drift.
_BETS = np.array([0.1, 0.2, 0.4, 0.8])


class EDetector:
    """Shiryaev-Roberts e-detector: the mean over several bets.

    A bet turns a row into a factor that is 1 on average (or less) while nothing has changed. The
    statistic adds up, over all rows where the change could have begun, the product of the factors
    since. Its mean grows by at most one per row while nothing has changed, so that the mean number
    of rows until it reaches `threshold` is at least `threshold` (Shin, Ramdas and Rinaldo 2023,
    Theorem 2.4), whatever the distribution of the rows, and also if they depend on each other.

    Parameters
    ----------
    n_bets : int
        Number of factors per row.
    threshold : float
        The statistic that ends the watch, which is the bound on the average run length.
    n_marks : int
        Number of running totals to remember at the likely start of a change.
    """

    def __init__(self, n_bets: int, threshold: float, n_marks: int) -> None:
        self.threshold = float(threshold)
        self._sums = np.zeros(n_bets)
        self._peaks = np.zeros(n_bets)  # largest product that ends at this row, for each bet
        self._marks = np.zeros((n_bets, n_marks))
        self.stopped = False

    def step(self, factors: Floats, totals: ArrayLike) -> bool:
        """Take the factors of a row and the totals before it; return whether this ends the watch.

        A stopped detector ignores further rows, so that nothing can overflow in a long drift.
        """
        if self.stopped:
            return False
        self._sums = (self._sums + 1) * factors
        fresh = self._peaks <= 1  # a change at this row is more likely than at an earlier one
        self._marks = np.where(fresh[:, None], totals, self._marks)
        self._peaks = np.where(fresh, 1.0, self._peaks) * factors
        self.stopped = bool(self.statistic >= self.threshold)
        return self.stopped

    @property
    def statistic(self) -> float:
        return float(self._sums.mean())

    @property
    def leader(self) -> int:
        """Number of the bet with the best case for a change."""
        return int(self._peaks.argmax())

    @property
    def mark(self) -> list[float]:
        """Totals before the row where the change began most likely."""
        return [float(value) for value in self._marks[self.leader]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "sums": self._sums.tolist(),
            "peaks": self._peaks.tolist(),
            "marks": self._marks.tolist(),
            "stopped": self.stopped,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> EDetector:
        marks = np.array(state["marks"], dtype=np.float64)
        detector = cls(marks.shape[0], state["threshold"], marks.shape[1])
        detector._sums = np.array(state["sums"], dtype=np.float64)
        detector._peaks = np.array(state["peaks"], dtype=np.float64)
        detector._marks = marks
        detector.stopped = bool(state["stopped"])
        return detector


def residual_bets(residual: float, weight: float, *, tolerance: float, max_weight: float) -> Floats:
    """Return the factors of a labelled row: bets on too much, then on too little confidence.

    ``weight * (residual - tolerance)`` has a mean of at most zero while the gap is within the
    tolerance, and ``weight / max_weight`` keeps it above ``-1 - tolerance``: the factors stay
    positive, and their mean is at most one.
    """
    scale = weight / max_weight
    over = 1 + _BETS * (scale * (residual - tolerance))
    under = 1 - _BETS * (scale * (residual + tolerance))
    return np.concatenate([over, under])


N_RESIDUAL_BETS = 2 * _BETS.size


class Cusum:
    """Two-sided cumulative sum of the weighted residuals beyond an allowance (Page 1954).

    Parameters
    ----------
    allowance : float
        Taken off each residual: half-way between the tolerated gap and the one to be found.
    thresholds : sequence of two floats
        Sums that end the watch: for too much confidence, and for too little.
    n_marks : int
        Number of running totals to remember at the likely start of a change.
    """

    def __init__(self, allowance: float, thresholds: ArrayLike, n_marks: int) -> None:
        self.allowance = float(allowance)
        self.thresholds = np.array(thresholds, dtype=np.float64)
        self._sums = np.zeros(2)
        self._marks = np.zeros((2, n_marks))
        self.stopped = False

    def step(self, residual: float, weight: float, totals: ArrayLike) -> bool:
        """Take a residual and the totals before it; return whether this ends the watch."""
        if self.stopped:
            return False
        self._marks = np.where((self._sums <= 0)[:, None], totals, self._marks)
        signed = np.array([residual, -residual])
        self._sums = np.maximum(self._sums + weight * (signed - self.allowance), 0.0)
        self.stopped = bool((self._sums > self.thresholds).any())
        return self.stopped

    @property
    def leader(self) -> int:
        """0 for too much confidence, 1 for too little."""
        return int((self._sums / self.thresholds).argmax())

    @property
    def statistic(self) -> float:
        """Sum of the side that is nearer to its threshold."""
        return float(self._sums[self.leader])

    @property
    def threshold(self) -> float:
        return float(self.thresholds[self.leader])

    @property
    def mark(self) -> list[float]:
        """Totals before the row where the change began most likely."""
        return [float(value) for value in self._marks[self.leader]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "allowance": self.allowance,
            "thresholds": self.thresholds.tolist(),
            "sums": self._sums.tolist(),
            "marks": self._marks.tolist(),
            "stopped": self.stopped,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Cusum:
        marks = np.array(state["marks"], dtype=np.float64)
        detector = cls(state["allowance"], state["thresholds"], marks.shape[1])
        detector._sums = np.array(state["sums"], dtype=np.float64)
        detector._marks = marks
        detector.stopped = bool(state["stopped"])
        return detector
