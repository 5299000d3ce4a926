"""The figures that are shown wherever probabilities are judged, in one choice of bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.metrics.calibration_error import debiased_calibration_error
from skllm_calib.metrics.noise import calibration_error_interval, calibration_noise_floor
from skllm_calib.metrics.proper_scores import brier_score, log_loss, top_label_accuracy
from skllm_calib.metrics.selective import aurc

__all__ = ["BINS", "measure"]

# Ten bins of equal mass, the least noisy choice that still sees wiggles.
BINS: dict[str, Any] = {"n_bins": 10, "strategy": "quantile"}


def measure(
    y: ArrayLike,
    proba: NDArray[np.float64],
    labels: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    n_resamples: int = 1000,
) -> dict[str, float]:
    """Return the figures of some probabilities, each as a fraction or in nats."""
    known: dict[str, Any] = {"labels": labels, "sample_weight": sample_weight}
    interval = calibration_error_interval(y, proba, n_resamples=n_resamples, **BINS, **known)
    return {
        "accuracy": float(top_label_accuracy(y, proba, **known)),
        "mean_confidence": float(
            np.average(
                proba.max(axis=1),
                weights=None if sample_weight is None else np.asarray(sample_weight),
            )
        ),
        "log_loss": float(log_loss(y, proba, **known)),
        "brier": float(brier_score(y, proba, **known)),
        "ece": float(interval.estimate),
        "ece_low": float(interval.low),
        "ece_high": float(interval.high),
        "ece_floor": float(calibration_noise_floor(proba, **BINS, **known)),
        "ece_debiased": float(debiased_calibration_error(y, proba, **BINS, **known)),
        "aurc": float(aurc(y, proba, **known)),
    }
