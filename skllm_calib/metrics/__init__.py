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
    aurc_scorer,
    brier_scorer,
    calibration_scoring,
    classwise_ece_scorer,
    ece_scorer,
    log_loss_scorer,
    selective_risk_scorer,
    smooth_ece_scorer,
)
from skllm_calib.metrics.selective import (
    RiskCoverageCurve,
    aurc,
    risk_coverage_curve,
    selective_risk,
)
from skllm_calib.metrics.smooth import smooth_calibration_error

__all__ = [
    "CalibrationErrorInterval",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "aurc",
    "aurc_scorer",
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
    "risk_coverage_curve",
    "selective_risk",
    "selective_risk_scorer",
    "smooth_calibration_error",
    "smooth_ece_scorer",
    "top_label_accuracy",
]
