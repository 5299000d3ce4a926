"""Pictures of calibrated classification; matplotlib is imported when one is drawn."""

from skllm_calib.display.comparison import CalibrationComparisonDisplay
from skllm_calib.display.learning_curve import CalibrationLearningCurveDisplay
from skllm_calib.display.reliability import ReliabilityDisplay
from skllm_calib.display.review_cost import ReviewCostDisplay
from skllm_calib.display.risk_coverage import RiskCoverageDisplay
from skllm_calib.display.risk_matrix import RiskMatrixDisplay
from skllm_calib.display.score_histogram import ScoreHistogramDisplay

__all__ = [
    "CalibrationComparisonDisplay",
    "CalibrationLearningCurveDisplay",
    "ReliabilityDisplay",
    "ReviewCostDisplay",
    "RiskCoverageDisplay",
    "RiskMatrixDisplay",
    "ScoreHistogramDisplay",
]
