"""The threshold of a cumulative sum that gives a wanted average run length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz

__all__ = ["average_run_length", "cusum_thresholds"]

Floats = NDArray[np.float64]

_NODES = 400
# Thresholds are found to this relative precision, which moves the run length by less than 1 %.
_PRECISION = 1e-3


def cusum_thresholds(
    confidence: Floats,
    weight: Floats,
    *,
    allowance: float,
    tolerance: float,
    run_length: float,
) -> tuple[float, float]:
    """Return the thresholds of both sides, each with half of the false alarms.

    The rows to come are taken to be like the reference rows: confidence and weight of a row drawn
    at random, a label that is right as often as the confidence says, less `tolerance` for the side
    that watches for too much confidence and plus `tolerance` for the other: the worst of the
    streams that should raise no alarm.

    Parameters
    ----------
    confidence, weight : ndarray of shape (n_samples,)
        Reference rows.
    allowance : float
        What is taken off each residual.
    tolerance : float
        Gap between confidence and accuracy that is no reason for an alarm.
    run_length : float
        Wanted mean number of labels until a false alarm of either side.
    """
    both: list[float] = []
    for sign in (1, -1):
        right = np.clip(confidence - sign * tolerance, 0.0, 1.0)
        steps = np.concatenate(
            [
                weight * (sign * (confidence - 1) - allowance),
                weight * (sign * confidence - allowance),
            ]
        )
        chance = np.concatenate([right, 1 - right]) / confidence.size
        both.append(_threshold(steps, chance, 2 * run_length))
    return both[0], both[1]


def average_run_length(
    threshold: float, steps: Floats, chance: Floats, n_nodes: int = _NODES
) -> float:
    """Mean number of rows until ``S = max(0, S + step)``, from 0, exceeds the threshold.

    The sum is followed as a Markov chain on evenly spaced nodes (Brook and Evans 1972). A step
    that ends between two nodes goes to both in such shares that its mean is kept; moved to the
    nearest node instead, steps of few sizes would all be rounded the same way.

    Parameters
    ----------
    threshold : float
        Positive.
    steps, chance : ndarray of shape (n_steps,)
        Possible steps and their probabilities.
    n_nodes : int
        Number of nodes from 0 to the threshold, which lies half-way past the last one.
    """
    position = np.clip(steps / (threshold / (n_nodes - 0.5)), -n_nodes, n_nodes)
    left = np.floor(position)
    share = position - left
    index = left.astype(np.int64) + n_nodes
    move = np.bincount(index, chance * (1 - share), 2 * n_nodes + 2)
    move += np.bincount(index + 1, chance * share, 2 * n_nodes + 2)  # by -n_nodes ... n_nodes + 1
    to_zero = np.cumsum(move)[n_nodes:0:-1]  # from each node, all that ends at or below zero
    away = move[n_nodes + 1 : 2 * n_nodes]  # from zero to each of the other nodes
    # Between the other nodes the chain moves alike wherever it is: a Toeplitz system, whose solver
    # is fast and uses no threads. Rows until the sum leaves them, and the chance to leave by zero:
    column, row = -move[n_nodes:1:-1], -move[n_nodes : 2 * n_nodes - 1]
    column[0], row[0] = 1 + column[0], 1 + row[0]
    right = np.column_stack([np.ones(n_nodes - 1), to_zero[1:]])
    rows, back = solve_toeplitz((column, row), right).T
    leave = 1 - to_zero[0] - away @ back  # chance to cross before the next return to zero
    # Below rounding, the threshold is out of reach.
    return float((1 + away @ rows) / leave) if leave > 1e-14 else np.inf


def _threshold(steps: Floats, chance: Floats, run_length: float) -> float:
    """Smallest threshold with at least this average run length."""
    high = float(np.abs(steps).max())
    low = 1e-6 * high  # reached where no step upwards can be expected: then the first one counts
    while average_run_length(high, steps, chance) < run_length:
        low, high = high, 2 * high
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        if average_run_length(middle, steps, chance) < run_length:
            low = middle
        else:
            high = middle
    return high
