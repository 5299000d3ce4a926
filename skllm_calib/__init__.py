"""Calibrated class probabilities from any large language model, inside scikit-learn.

The public names live here; ``backends``, ``calibrators``, ``datasets`` and ``exceptions`` are
public modules of their own.
"""

from skllm_calib._version import __version__
from skllm_calib.backends import LlamaCppBackend, OpenAIBackend
from skllm_calib.cache import ResponseCache
from skllm_calib.calibrated import CalibratedLLMClassifier
from skllm_calib.calibrators import (
    AutoCalibrator,
    BetaCalibration,
    ConstantCalibration,
    DirichletCalibration,
    DiscreteCalibration,
    EnsembleTemperatureScaling,
    HistogramBinning,
    IsotonicCalibration,
    MatrixScaling,
    PlattScaling,
    ScalingBinning,
    TemperatureScaling,
    VectorScaling,
    VennAbersCalibration,
)
from skllm_calib.card import CalibrationCard
from skllm_calib.classifier import FailedRowsWarning, LLMClassifier
from skllm_calib.display import ReliabilityDisplay
from skllm_calib.ensemble import LLMEnsembleClassifier
from skllm_calib.metrics import (
    aurc,
    aurc_scorer,
    brier_score,
    brier_scorer,
    calibration_error_interval,
    calibration_noise_floor,
    calibration_scoring,
    classwise_calibration_error,
    classwise_ece_scorer,
    debiased_calibration_error,
    ece_scorer,
    expected_calibration_error,
    log_loss_scorer,
    reliability_curve,
    risk_coverage_curve,
    selective_risk,
    selective_risk_scorer,
    smooth_calibration_error,
    smooth_ece_scorer,
)
from skllm_calib.persistence import TRUSTED_TYPES
from skllm_calib.prompts import Prompt
from skllm_calib.review import AcceptThreshold, accept_threshold

__all__ = [
    "TRUSTED_TYPES",
    "AcceptThreshold",
    "AutoCalibrator",
    "BetaCalibration",
    "CalibratedLLMClassifier",
    "CalibrationCard",
    "ConstantCalibration",
    "DirichletCalibration",
    "DiscreteCalibration",
    "EnsembleTemperatureScaling",
    "FailedRowsWarning",
    "HistogramBinning",
    "IsotonicCalibration",
    "LLMClassifier",
    "LLMEnsembleClassifier",
    "LlamaCppBackend",
    "MatrixScaling",
    "OpenAIBackend",
    "PlattScaling",
    "Prompt",
    "ReliabilityDisplay",
    "ResponseCache",
    "ScalingBinning",
    "TemperatureScaling",
    "VectorScaling",
    "VennAbersCalibration",
    "__version__",
    "accept_threshold",
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
]
