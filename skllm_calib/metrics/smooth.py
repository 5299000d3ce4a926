"""Smooth calibration error: no bins, so no choice of bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct, idct
from scipy.optimize import brentq

from skllm_calib.log_proba.validation import check_input
from skllm_calib.metrics.binning import judge

__all__ = ["smooth_calibration_error"]

# Cells of the grid on [0, 1]. Their width is the smallest bandwidth that can be told from none.
_N_CELLS = 1 << 14


def smooth_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    kind: object = "top-label",
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Smooth calibration error (smECE): the ECE with a kernel instead of bins.

    The differences between outcome and confidence are smoothed over the confidence with a Gaussian
    kernel, reflected at 0 and 1, and the mean absolute value of the result is taken. The bandwidth
    is the one that equals the error found with it [1]_, so there is nothing to tune, and a small
    change of a probability changes the figure by little, which no binned error can say.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1], columns in sorted order of the classes and rows that sum to 1; 1-D
        holds the probability of `pos_label` in a problem of two classes.
    kind : "top-label" or a class label, default="top-label"
        Which confidence is evaluated: that of the most probable class, or that of one class.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. Needed when `y_true` lacks one of them.
    pos_label : object, default=None
        Class that 1-D probabilities belong to; the last of the sorted labels when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights; a weight of 2 acts as the same row twice.

    Returns
    -------
    error : float
        Smooth calibration error in [0, 1], as a fraction.

    Raises
    ------
    InvalidInput
        If an input does not fit; the error knows parameter, row and value.

    See Also
    --------
    expected_calibration_error : The same idea with bins.

    Notes
    -----
    Computed on a grid of 16,384 cells with a cosine transform, whose basis is reflected at both
    ends just as the kernel is: smoothing is then a product. Like every calibration error it is
    biased upwards on small test sets.

    References
    ----------
    .. [1] J. Błasiok, P. Nakkiran (2024). Smooth ECE: Principled Reliability Diagrams via Kernel
       Smoothing. ICLR.

    Examples
    --------
    >>> from skllm_calib.metrics import smooth_calibration_error
    >>> y_true = ["ham", "spam", "spam", "ham"] * 50
    >>> p_spam = [0.1, 0.9, 0.9, 0.9] * 50
    >>> round(smooth_calibration_error(y_true, p_spam), 3)  # 3 of 4 right at confidence 0.9
    0.15
    """
    judged = judge(
        check_input(
            y_true, y_proba, labels=labels, pos_label=pos_label, sample_weight=sample_weight
        ),
        kind,
    )
    share = judged.weight / judged.weight.sum()
    spectrum = dct(_spread(judged.confidence, share * (judged.hit - judged.confidence)))
    damping = (np.pi * np.arange(_N_CELLS)) ** 2 / 2

    def error(bandwidth: float) -> float:
        return float(np.abs(idct(spectrum * np.exp(-damping * bandwidth**2))).sum())

    # The error falls as the bandwidth grows, from at most one, so the two meet exactly once.
    finest = 1 / _N_CELLS
    if error(finest) <= finest:
        return error(finest)
    return float(brentq(lambda bandwidth: error(bandwidth) - bandwidth, finest, 1.0, xtol=1e-9))


def _spread(place: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share each mass between the two cells whose centres are nearest."""
    at = np.clip(place * _N_CELLS - 0.5, 0, _N_CELLS - 1)
    left = np.minimum(at.astype(np.intp), _N_CELLS - 2)
    right_part = at - left
    cells = np.zeros(_N_CELLS)
    np.add.at(cells, left, mass * (1 - right_part))
    np.add.at(cells, left + 1, mass * right_part)
    return cells
