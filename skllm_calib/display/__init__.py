"""Pictures of calibrated classification; matplotlib is imported when one is drawn."""

from skllm_calib.display.learning_curve import CalibrationLearningCurveDisplay
from skllm_calib.display.reliability import ReliabilityDisplay

__all__ = ["CalibrationLearningCurveDisplay", "ReliabilityDisplay"]
