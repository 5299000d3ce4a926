"""From scores to probabilities that are true, with some labelled rows."""

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.calibration.card import CalibrationCard
from skllm_calib.calibration.decomposition import (
    ScoreDecomposition,
    brier_decomposition,
    log_loss_decomposition,
)
from skllm_calib.calibration.ensemble.ensemble import LLMEnsembleClassifier
from skllm_calib.calibration.learning_curve import (
    CalibrationLearningCurve,
    calibration_learning_curve,
)

__all__ = [
    "CalibratedLLMClassifier",
    "CalibrationCard",
    "CalibrationLearningCurve",
    "LLMEnsembleClassifier",
    "ScoreDecomposition",
    "brier_decomposition",
    "calibration_learning_curve",
    "log_loss_decomposition",
]
