"""The figures shown wherever probabilities are evaluated, with one choice of bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skllm_calib.log_proba.validation import FIT_NAMES, check_input
from skllm_calib.metrics.calibration_error import debiased_calibration_error
from skllm_calib.metrics.noise import calibration_error_interval, calibration_noise_floor
from skllm_calib.metrics.proper_scores import brier_score, log_loss, top_label_accuracy
from skllm_calib.metrics.selective import aurc

__all__ = ["BINS", "measure"]

# Ten bins of equal mass, the least noisy choice that still sees wiggles.
BINS: dict[str, Any] = {"n_bins": 10, "strategy": "quantile"}


def measure(
    y: ArrayLike,
    proba: ArrayLike,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    n_resamples: int = 1000,
) -> dict[str, float]:
    """Return the figures of some probabilities, each as a fraction or in nats."""
    # Checked once, and then taken as they are.
    rows = check_input(y, proba, labels=labels, sample_weight=sample_weight, names=FIT_NAMES)
    interval = calibration_error_interval(rows, rows, n_resamples=n_resamples, **BINS)
    return {
        "accuracy": float(top_label_accuracy(rows, rows)),
        "mean_confidence": float(np.average(rows.proba.max(axis=1), weights=rows.weight)),
        "log_loss": float(log_loss(rows, rows)),
        "brier": float(brier_score(rows, rows)),
        "ece": float(interval.estimate),
        "ece_low": float(interval.low),
        "ece_high": float(interval.high),
        "ece_floor": float(calibration_noise_floor(rows, **BINS)),
        "ece_debiased": float(debiased_calibration_error(rows, rows, **BINS)),
        "aurc": float(aurc(rows, rows)),
    }
