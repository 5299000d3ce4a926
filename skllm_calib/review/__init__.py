"""Acting on calibrated probabilities: policies with a guarantee, label sets, risk matrices."""

from skllm_calib.review.classifier import ReviewClassifier
from skllm_calib.review.policy import PolicyEvidence, ReviewPolicy
from skllm_calib.review.prediction_sets import PredictionSets
from skllm_calib.review.risk_matrix import RiskMatrix
from skllm_calib.review.thresholds import AcceptThreshold, accept_threshold

__all__ = [
    "AcceptThreshold",
    "PolicyEvidence",
    "PredictionSets",
    "ReviewClassifier",
    "ReviewPolicy",
    "RiskMatrix",
    "accept_threshold",
]
