"""What a reliability diagram shows of judged rows, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from skllm_calib.display._smooth import smooth_curve_of
from skllm_calib.metrics.binning import Judged, Strategy, assign_bins, combine, summarise
from skllm_calib.metrics.noise import calibration_error_interval, floor_of
from skllm_calib.metrics.reliability import curve_of


def figures_of(
    judged: Judged, n_bins: int, strategy: Strategy, smooth: bool, show_interval: bool
) -> dict[str, Any]:
    """Return the parameters of a :class:`ReliabilityDisplay` that follow from the rows."""
    bins = summarise(judged, assign_bins(judged.confidence, judged.weight, n_bins, strategy))
    interval = None
    if show_interval:
        interval = calibration_error_interval(
            judged.hit.astype(np.int64),
            judged.confidence,
            n_bins=n_bins,
            strategy=strategy,
            kind=1,
            labels=[0, 1],
            sample_weight=judged.weight,
        )
    return {
        "curve": curve_of(judged, n_bins, strategy),
        "confidence": judged.confidence,
        "sample_weight": judged.weight,
        "calibration_error": combine(bins.mass, bins.gap, "l1"),
        "error_interval": interval,
        "noise_floor": floor_of(bins),
        "smooth_curve": smooth_curve_of(judged) if smooth else None,
    }
