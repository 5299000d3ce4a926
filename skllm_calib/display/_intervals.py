"""How far the points of a diagram may stray: under calibration, and around the data."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom
from scipy.stats import norm as normal

from skllm_calib.log_proba.parameters import check_choice
from skllm_calib.metrics.reliability import ReliabilityCurve

Interval = Literal["wilson", "clopper-pearson"] | None

_Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


def check_interval(method: object, name: str) -> None:
    """Refuse a method that :func:`proportion_interval` does not know."""
    check_choice(method, name, ("wilson", "clopper-pearson", None))


def consistency_band(curve: ReliabilityCurve, level: float) -> _Ends:
    """Ends, bin by bin, of the accuracies that a calibrated model would show."""
    rows = np.maximum(np.round(curve.effective_count), 1)
    # Binomial at the mean confidence: exact for equal confidences in a bin, else a little wide.
    low = binom.ppf((1 - level) / 2, rows, curve.mean_confidence) / rows
    high = binom.ppf((1 + level) / 2, rows, curve.mean_confidence) / rows
    return low, high


def proportion_interval(
    proportion: NDArray[np.float64], rows: NDArray[np.float64], method: str
) -> _Ends:
    """Interval of 95 % confidence of each proportion, seen in so many equally weighted rows."""
    if method == "wilson":
        z = float(normal.ppf(0.975))
        centre = (proportion + z**2 / (2 * rows)) / (1 + z**2 / rows)
        spread = np.sqrt(proportion * (1 - proportion) / rows + z**2 / (4 * rows**2))
        reach = z * spread / (1 + z**2 / rows)
        return centre - reach, centre + reach
    hits, misses = proportion * rows, (1 - proportion) * rows
    low = np.where(hits > 0, beta.ppf(0.025, np.maximum(hits, 1e-12), misses + 1), 0.0)
    high = np.where(misses > 0, beta.ppf(0.975, hits + 1, np.maximum(misses, 1e-12)), 1.0)
    return low, high
