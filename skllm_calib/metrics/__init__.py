"""Metrics of calibrated classification, for any classifier with probabilities."""

from skllm_calib.metrics.calibration_error import (
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
)
from skllm_calib.metrics.noise import (
    CalibrationErrorInterval,
    calibration_error_interval,
    calibration_noise_floor,
)
from skllm_calib.metrics.proper_scores import brier_score, top_label_accuracy
from skllm_calib.metrics.reliability import ReliabilityCurve, reliability_curve
from skllm_calib.metrics.scorers import (
    brier_scorer,
    calibration_scoring,
    classwise_ece_scorer,
    ece_scorer,
    log_loss_scorer,
)

__all__ = [
    "CalibrationErrorInterval",
    "ReliabilityCurve",
    "brier_score",
    "brier_scorer",
    "calibration_error_interval",
    "calibration_noise_floor",
    "calibration_scoring",
    "classwise_calibration_error",
    "classwise_ece_scorer",
    "debiased_calibration_error",
    "ece_scorer",
    "expected_calibration_error",
    "log_loss_scorer",
    "reliability_curve",
    "top_label_accuracy",
]
