"""The reliability curve: accuracy against confidence, bin by bin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics.binning import (
    Judged,
    NumberOfBins,
    Strategy,
    is_sweep,
    judge,
    place,
    summarise,
)

__all__ = ["ReliabilityCurve", "reliability_curve"]


class ReliabilityCurve(NamedTuple):
    """Figures of the non-empty bins, from low to high confidence.

    Attributes
    ----------
    mean_confidence : ndarray of shape (n_bins,)
        Mean stated probability of the rows of the bin.
    accuracy : ndarray of shape (n_bins,)
        Share of them for which it came true.
    counts : ndarray of shape (n_bins,)
        Number of rows.
    effective_count : ndarray of shape (n_bins,)
        Number of equally weighted rows that would be as noisy; the count without weights.
    mass : ndarray of shape (n_bins,)
        Share of the total weight; sums to 1.
    edges : ndarray of shape (n_bins, 2)
        Where the bin starts and ends.
    """

    mean_confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.int64]
    effective_count: NDArray[np.float64]
    mass: NDArray[np.float64]
    edges: NDArray[np.float64]


def reliability_curve(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: NumberOfBins = 15,
    strategy: Strategy = "uniform",
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> ReliabilityCurve:
    """Mean confidence and accuracy of rows of similar confidence, for any number of classes.

    The bins are those of :func:`expected_calibration_error` with the same parameters, which is
    ``sum(mass * abs(accuracy - mean_confidence))``. With ``kind=pos_label`` it is
    :func:`sklearn.calibration.calibration_curve`.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes, or named by them; 1-D holds
        the probability of `pos_label`.
    n_bins : int or "sweep", default=15
        Number of bins; empty ones are left out. "sweep" uses as many bins of equal mass as
        the rows support, whatever the `strategy`: accuracy then never falls from one bin to the
        next.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width or of equal mass.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is evaluated: that of the most probable class, or that of one class.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    curve : ReliabilityCurve
        Named arrays of one entry per bin.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    References
    ----------
    .. [1] J. Bröcker, L. A. Smith (2007). Increasing the Reliability of Reliability Diagrams.
       Weather and Forecasting 22.

    Examples
    --------
    >>> from skllm_calib.metrics import reliability_curve
    >>> curve = reliability_curve([1, 1, 0, 1], [0.9, 0.9, 0.4, 0.6], n_bins=2)
    >>> curve.counts, curve.mean_confidence.round(2), curve.accuracy.round(2)
    (array([4]), array([0.75]), array([1.]))
    """
    judged = judge(
        check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        ),
        kind,
    )
    return curve_of(judged, n_bins, strategy)


def curve_of(judged: Judged, n_bins: NumberOfBins, strategy: Strategy) -> ReliabilityCurve:
    """Build the curve of rows whose confidence has been picked."""
    number = place(judged, n_bins, strategy)
    bins = summarise(judged, number)
    if strategy == "uniform" and not is_sweep(n_bins):
        edges = np.column_stack([bins.number, bins.number + 1]) / int(n_bins)
    else:
        # Equal-mass bins meet half-way between the neighbouring confidences.
        inside = [judged.confidence[number == one] for one in bins.number]
        low = np.array([one.min() for one in inside])
        high = np.array([one.max() for one in inside])
        cuts = (high[:-1] + low[1:]) / 2
        edges = np.column_stack([np.r_[low[0], cuts], np.r_[cuts, high[-1]]])
    return ReliabilityCurve(
        mean_confidence=bins.mean_confidence,
        accuracy=bins.accuracy,
        counts=bins.counts,
        effective_count=bins.effective_count,
        mass=bins.mass,
        edges=edges,
    )
