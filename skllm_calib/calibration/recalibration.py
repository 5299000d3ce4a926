"""Recalibrated probabilities that no row helped to make for itself."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from skllm_calib.calibration.calibrators import BaseCalibrator, resolve_calibrator
from skllm_calib.log_proba.folds import deal_folds

Floats = NDArray[np.float64]


def fit_and_apply(
    calibrator: BaseCalibrator,
    log_proba: Floats,
    codes: NDArray[np.int64],
    weight: Floats,
    *,
    learn: NDArray[np.int64],
    apply: NDArray[np.int64],
) -> Floats:
    """Fit on the rows `learn` and return the probabilities of the rows `apply`."""
    with warnings.catch_warnings():
        # Too few rows, or a parameter at its bound: it shows in the scores, which is what they are
        # for. The fit is one of many and nobody's model.
        warnings.simplefilter("ignore", UserWarning)
        calibrator.fit(
            log_proba[learn], codes[learn], weight[learn], classes=np.arange(log_proba.shape[1])
        )
    return calibrator.predict_proba(log_proba[apply])


def cross_fitted(
    method: str | BaseCalibrator,
    log_proba: Floats,
    codes: NDArray[np.int64],
    weight: Floats,
    *,
    n_folds: int,
    rng: np.random.Generator,
) -> Floats:
    """Recalibrate every row with a map fitted on the other folds; the order of rows is free."""
    # Sorted rows make the folds, and so the figures, independent of the order of the rows.
    order = np.lexsort((weight, *log_proba.T, codes))
    log_proba, codes, weight = log_proba[order], codes[order], weight[order]
    part, dealt = deal_folds(codes, n_folds, rng)
    fold = np.empty_like(dealt)
    fold[part] = dealt
    out = np.empty_like(log_proba)
    for number in range(n_folds):
        learn, apply = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        out[order[apply]] = fit_and_apply(
            resolve_calibrator(method), log_proba, codes, weight, learn=learn, apply=apply
        )
    return out
