"""Metrics of calibrated classification, for any classifier with probabilities."""

from skllm_calib.metrics.calibration_error import (
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
)
from skllm_calib.metrics.claim import CalibrationClaim, can_claim
from skllm_calib.metrics.hypothesis import CalibrationTest, calibration_test
from skllm_calib.metrics.noise import (
    CalibrationErrorInterval,
    calibration_error_interval,
    calibration_noise_floor,
)
from skllm_calib.metrics.prior_shift import (
    ClassPriorEstimate,
    adjust_to_prior,
    estimate_class_prior,
)
from skllm_calib.metrics.proper_scores import brier_score, top_label_accuracy
from skllm_calib.metrics.reliability import ReliabilityCurve, reliability_curve
from skllm_calib.metrics.review_cost import ReviewCostCurve, review_cost_curve
from skllm_calib.metrics.sampling import RowsToLabel, suggest_rows_to_label
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
    "CalibrationClaim",
    "CalibrationErrorInterval",
    "CalibrationTest",
    "ClassPriorEstimate",
    "ReliabilityCurve",
    "ReviewCostCurve",
    "RiskCoverageCurve",
    "RowsToLabel",
    "adjust_to_prior",
    "aurc",
    "aurc_scorer",
    "brier_score",
    "brier_scorer",
    "calibration_error_interval",
    "calibration_noise_floor",
    "calibration_scoring",
    "calibration_test",
    "can_claim",
    "classwise_calibration_error",
    "classwise_ece_scorer",
    "debiased_calibration_error",
    "ece_scorer",
    "estimate_class_prior",
    "expected_calibration_error",
    "log_loss_scorer",
    "reliability_curve",
    "review_cost_curve",
    "risk_coverage_curve",
    "selective_risk",
    "selective_risk_scorer",
    "smooth_calibration_error",
    "smooth_ece_scorer",
    "suggest_rows_to_label",
    "top_label_accuracy",
]
