"""The reliability curve without bins: local linear regression, with a bootstrap band."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm as normal

from skllm_calib.metrics.binning import Judged

Floats = NDArray[np.float64]

# Confidences are gathered in cells, narrower than any bandwidth.
_N_CELLS = 200
_BANDWIDTHS = np.geomspace(0.01, 0.5, 12)
_N_RESAMPLES = 500
# A little of this keeps slopes from running away where all rows near have the same confidence.
_RIDGE = 0.01
# With fewer rows in reach of the kernel, the bootstrap knows next to nothing.
_LEAST_ROWS = 10 - 1e-9


class SmoothReliabilityCurve(NamedTuple):
    """Accuracy as a smooth function of the confidence; arrays of shape (n_points,).

    Attributes
    ----------
    confidence : ndarray
        Points between 0 and 1.
    accuracy : ndarray
        Smoothed accuracy there; NaN where fewer than ten rows are near.
    low, high : ndarray
        Ends of the pointwise 95 % band.
    bandwidth : float
        Standard deviation of the kernel.
    """

    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    bandwidth: float


def smooth_curve_of(judged: Judged) -> SmoothReliabilityCurve:
    """Smooth the gap between outcome and confidence, and add it to the diagonal."""
    # Rows that agree in cell, outcome and weight are alike: few groups, however many rows.
    hit = judged.hit.astype(np.int64)
    cell = np.minimum((judged.confidence * _N_CELLS).astype(np.int64), _N_CELLS - 1)
    weights, weight_code = np.unique(judged.weight, return_inverse=True)
    codes, group, count = np.unique(
        (weight_code * 2 + hit) * _N_CELLS + cell, return_inverse=True, return_counts=True
    )
    cell, weight = codes % _N_CELLS, weights[codes // (2 * _N_CELLS)]
    gap = np.bincount(group, weights=judged.hit - judged.confidence) / count

    def per_cell(values: Floats) -> Floats:
        return np.bincount(cell, weights=values, minlength=_N_CELLS).astype(np.float64)

    mass, squares = per_cell(weight * count), per_cell(weight**2 * count)
    gaps = per_cell(weight * count * gap)

    def error_left_out(bandwidth: float) -> float:
        """Squared error of the gap of each row, as the other rows predict it."""
        smoother = _fit(mass[None], np.eye(_N_CELLS), bandwidth)
        own = np.minimum(weight * np.diag(smoother)[cell], 1 - 1e-9)
        left_out = (gap - (gaps @ smoother)[cell]) / (1 - own)
        return float((weight * count) @ np.minimum(left_out**2, 1.0))

    bandwidth = min(_BANDWIDTHS[::-1].tolist(), key=error_left_out)  # the widest of equals
    points = (np.arange(_N_CELLS) + 0.5) / _N_CELLS
    smoother = _fit(mass[None], np.eye(_N_CELLS), bandwidth)
    kernel, _ = _kernel(bandwidth)
    rows_near = (kernel @ mass) ** 2 / np.maximum(kernel**2 @ squares, 1e-300)
    within = (points >= points[cell].min()) & (points <= points[cell].max())
    seen = within & (rows_near >= _LEAST_ROWS)
    accuracy = np.where(seen, np.clip(points + gaps @ smoother, 0, 1), np.nan)

    rng = np.random.default_rng(0)
    drawn_mass, drawn_gaps = np.empty((2, _N_RESAMPLES, _N_CELLS))
    for draw in range(_N_RESAMPLES):
        drawn = weight * rng.multinomial(hit.size, count / hit.size)
        drawn_mass[draw], drawn_gaps[draw] = per_cell(drawn), per_cell(drawn * gap)
    draws = _fit(drawn_mass, drawn_gaps, bandwidth)
    # Where no row is wrong nothing varies from draw to draw; a calibrated model's rows would.
    expected = np.sqrt((squares * points * (1 - points)) @ smoother**2)
    spread = float(normal.ppf(0.975)) * np.maximum(draws.std(axis=0, ddof=1), expected)
    return SmoothReliabilityCurve(
        confidence=points,
        accuracy=accuracy,
        low=np.clip(accuracy - spread, 0, 1),
        high=np.clip(accuracy + spread, 0, 1),
        bandwidth=bandwidth,
    )


def _fit(mass: Floats, gaps: Floats, bandwidth: float) -> Floats:
    """Fit a line to the gaps near each point, and return its height there; (n_fits, n_points)."""
    kernel, step = _kernel(bandwidth)
    total = np.maximum(mass @ kernel, 1e-100)  # no row is near: whatever is finite will do
    middle, square = mass @ (kernel * step) / total, mass @ (kernel * step**2) / total + _RIDGE
    level, slope = gaps @ kernel / total, gaps @ (kernel * step) / total
    # The spread of the confidences around their middle, plus the ridge.
    determinant = np.maximum(square - middle**2, _RIDGE)
    return np.asarray((square * level - middle * slope) / determinant)


def _kernel(bandwidth: float) -> tuple[Floats, Floats]:
    """Gaussian weights between points, and their steps in bandwidths; (n_points, n_points)."""
    cells = np.arange(_N_CELLS)
    step = np.subtract.outer(cells, cells) / (_N_CELLS * bandwidth)
    return np.exp(-(step**2) / 2), step
