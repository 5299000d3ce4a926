"""Rows -> bins of similar confidence, and what each bin says about calibration."""

from __future__ import annotations

from numbers import Integral
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.metrics._validation import Checked

Strategy = Literal["uniform", "quantile"]
Norm = Literal["l1", "l2", "max"]

# Confidences that differ by rounding only (1 - 0.45 and 0.55) must share a bin and a threshold.
DECIMALS = 12


class Judged(NamedTuple):
    """One stated confidence a row, whether it came true, and the weight of the row."""

    confidence: NDArray[np.float64]
    hit: NDArray[np.float64]
    weight: NDArray[np.float64]


class Bins(NamedTuple):
    """Figures of the non-empty bins, each an array of shape (n_bins,).

    ``gap`` is accuracy minus mean confidence. ``noise`` estimates the sampling variance of the gap
    from the rows; ``null_noise`` is that variance if every confidence were right.
    """

    number: NDArray[np.int64]
    counts: NDArray[np.int64]
    effective_count: NDArray[np.float64]
    mass: NDArray[np.float64]
    mean_confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    gap: NDArray[np.float64]
    noise: NDArray[np.float64]
    null_noise: NDArray[np.float64]


def judge(checked: Checked, kind: object = "top-label") -> Judged:
    """Pick the confidence to be judged: of the most probable class, or of one named class."""
    proba, codes, classes, weight = checked
    if isinstance(kind, str) and kind == "top-label":
        top = proba.argmax(axis=1)
        confidence = proba[np.arange(top.size), top]  # several times faster than max(axis=1)
        return Judged(confidence, (top == codes).astype(np.float64), weight)
    names = classes.tolist()
    if kind not in names:
        raise ValueError(f"kind must be 'top-label' or one of the labels {names}, got {kind!r}.")
    column = names.index(kind)
    return Judged(proba[:, column], (codes == column).astype(np.float64), weight)


def check_bins(n_bins: object, strategy: object) -> None:
    """Refuse binning parameters that mean nothing."""
    if not isinstance(n_bins, Integral) or isinstance(n_bins, bool) or n_bins < 1:
        raise ValueError(f"n_bins must be an integer of at least 1, got {n_bins!r}.")
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f"strategy must be 'uniform' or 'quantile', got {strategy!r}.")


def assign_bins(
    confidence: NDArray[np.float64],
    weight: NDArray[np.float64],
    n_bins: int,
    strategy: Strategy,
) -> NDArray[np.int64]:
    """Number the bin of every row, 0 to ``n_bins - 1``, from confidences and weights alone.

    Equal confidences always share a bin, so the order of the rows cannot matter. Equal-mass bins
    place each distinct confidence by the middle of its share of the total weight: without ties the
    bins are exactly equal, and a weight of 2 acts as two rows.

    Parameters
    ----------
    confidence, weight : ndarray of shape (n_samples,)
        Confidence in [0, 1] and positive weight of every row.
    n_bins : int
        Number of bins.
    strategy : {"uniform", "quantile"}
        Equal width, each bin ``(low, high]`` as in scikit-learn, or equal mass.

    Returns
    -------
    number : ndarray of shape (n_samples,)
        The bin of every row.
    """
    check_bins(n_bins, strategy)
    rounded = np.round(confidence, DECIMALS)
    if strategy == "uniform":
        cuts = np.round(np.arange(1, n_bins) / n_bins, DECIMALS)
        return np.searchsorted(cuts, rounded, side="left").astype(np.int64)
    _, group = np.unique(rounded, return_inverse=True)
    mass = np.bincount(group, weights=weight)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    number = np.floor(np.round(middle * n_bins, 9)).astype(np.int64)
    placed: NDArray[np.int64] = np.minimum(number, n_bins - 1)[group]
    return placed


def summarise(judged: Judged, number: NDArray[np.int64]) -> Bins:
    """Sum up every non-empty bin."""
    confidence, hit, weight = judged
    every = np.bincount(number)
    kept = np.flatnonzero(every)
    count = every[kept]

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(number, weights=values)[kept].astype(np.float64)

    weight_sum, square_sum = total(weight), total(weight**2)
    mean_confidence = total(weight * confidence) / weight_sum
    accuracy = total(weight * hit) / weight_sum
    residual = hit - confidence
    gap = total(weight * residual) / weight_sum
    null_noise = total(weight**2 * confidence * (1 - confidence)) / weight_sum**2
    # Variance of a weighted mean, estimated without bias: gap**2 - noise is then the mean of
    # residual_i * residual_j over pairs of different rows. One row says nothing of its own
    # variance and borrows the one its confidence claims.
    pairs = weight_sum**2 - square_sum
    alone = count == 1
    noise = (total((weight * residual) ** 2) - square_sum * gap**2) / np.where(alone, 1.0, pairs)
    return Bins(
        number=kept,
        counts=count.astype(np.int64),
        effective_count=weight_sum**2 / square_sum,
        mass=weight_sum / weight_sum.sum(),
        mean_confidence=mean_confidence,
        accuracy=accuracy,
        gap=gap,
        noise=np.where(alone, null_noise, np.maximum(noise, 0.0)),
        null_noise=null_noise,
    )


def combine(mass: NDArray[np.float64], gap: NDArray[np.float64], norm: Norm) -> float:
    """Pool the gaps of the bins into one non-negative figure."""
    if norm == "l1":
        return float(mass @ np.abs(gap))
    if norm == "l2":
        return float(np.sqrt(mass @ gap**2))
    if norm == "max":
        return float(np.abs(gap).max())
    raise ValueError(f"norm must be 'l1', 'l2' or 'max', got {norm!r}.")
