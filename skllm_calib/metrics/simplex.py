"""Bins of whole rows of probabilities, for calibration in the strictest sense."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.validation import Checked
from skllm_calib.metrics.binning import (
    DECIMALS,
    Judged,
    NumberOfBins,
    Strategy,
    assign_bins,
    check_bins,
    is_sweep,
    summarise,
)

Floats = NDArray[np.float64]


def is_canonical(kind: object) -> bool:
    """Tell whether the whole row is to be evaluated."""
    return isinstance(kind, str) and kind == "canonical"


def canonical_bins(
    checked: Checked, n_bins: NumberOfBins, strategy: Strategy
) -> tuple[Floats, Floats, Floats]:
    """Return the mass of each bin (n_bins,), and gap and noise of each class in it (n_bins, K)."""
    proba, codes, classes, weight = checked
    if is_sweep(n_bins):
        raise InvalidInput(
            "kind='canonical' needs a number of bins, got n_bins='sweep': whole rows have no order "
            "in which accuracy could rise.",
            "n_bins",
            value=n_bins,
        )
    if classes.size == 2:
        number = assign_bins(proba[:, 1], weight, n_bins, strategy)
    else:
        check_bins(n_bins, strategy)
        if strategy != "quantile":
            raise InvalidInput(
                f"kind='canonical' with {classes.size} classes needs strategy='quantile', got "
                f"{strategy!r}: bins of equal width would mostly be empty.",
                "strategy",
                value=strategy,
            )
        number = _split(np.round(proba, DECIMALS), weight, int(n_bins))
    columns = [
        summarise(Judged(proba[:, k], (codes == k).astype(np.float64), weight), number)
        for k in range(classes.size)
    ]
    gaps = np.column_stack([column.gap for column in columns])
    noise = np.column_stack([column.noise for column in columns])
    return columns[0].mass, gaps, noise


def _split(proba: Floats, weight: Floats, n_bins: int) -> NDArray[np.int64]:
    """Cut the rows, again and again, along the class whose probabilities vary most.

    Every cut divides the mass in the ratio of the bins still to be made on its two sides, so that
    all have about equal mass; rows with the same probability of that class stay together.
    """
    number = np.zeros(len(proba), dtype=np.int64)
    parts = [(np.arange(len(proba)), 0, n_bins)]
    while parts:
        rows, first, share = parts.pop()
        number[rows] = first
        if share == 1:
            continue
        here, mass = proba[rows], weight[rows]
        mean = mass @ here / mass.sum()
        spread = mass @ (here - mean) ** 2
        if spread.max() <= 1e-20 * mass.sum():  # equal rows share a bin
            continue
        _, group = np.unique(here[:, spread.argmax()], return_inverse=True)
        behind = np.cumsum(np.bincount(group, weights=mass))[:-1] / mass.sum()
        cut = int(np.abs(behind - (share // 2) / share).argmin())
        low = group <= cut
        parts.append((rows[low], first, share // 2))
        parts.append((rows[~low], first + share // 2, share - share // 2))
    return number
