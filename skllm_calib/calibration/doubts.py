"""Reasons to doubt a calibration that show in its rows: too few of them, or labels swapped."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from skllm_calib.log_proba.numerics import Floats

__all__ = ["warn_of_doubts"]

FEW_ROWS = 20
_RARE = 1e-3  # how rarely a classifier that knows nothing may cause the warning


def warn_of_doubts(log_proba: Floats, codes: NDArray[np.int64], classes: NDArray[Any]) -> None:
    """Warn where rows are too few, or the classifier is right far less often than by chance.

    By chance means: as often as two that choose the classes with the same frequencies as the
    classifier and as `y`, and know nothing of each other. It takes account of rare classes, and of
    a classifier that always answers the same.

    Parameters
    ----------
    log_proba : ndarray of shape (n_samples, n_classes)
        The scores before the calibration.
    codes : ndarray of shape (n_samples,)
        The number of the class of each row.
    classes : ndarray of shape (n_classes,)
    """
    n, n_classes = log_proba.shape
    if n_classes < 2:
        return
    if n < FEW_ROWS:
        warnings.warn(
            f"calibrated on {n} rows, which is very few: the result rests on assumptions more than "
            "on the labels. Label a hundred rows or more.",
            UserWarning,
            stacklevel=3,
        )
    predicted = log_proba.argmax(axis=1)
    n_right = int((predicted == codes).sum())
    shares = [np.bincount(chosen, minlength=n_classes) / n for chosen in (predicted, codes)]
    chance = float(shares[0] @ shares[1])
    if binom.cdf(n_right, n, chance) < _RARE:
        names = ", ".join(map(repr, classes[:8].tolist()))
        warnings.warn(
            f"the classifier is right in {n_right} of {n} rows, where chance alone gives about "
            f"{chance * n:.0f}: are labels swapped? Check that y and the classes ({names}) mean "
            "the same, as the calibration has learned the swap.",
            UserWarning,
            stacklevel=3,
        )
