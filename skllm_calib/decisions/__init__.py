"""Acting on calibrated probabilities: policies with a guarantee, label sets, risk matrices."""

from skllm_calib.decisions.classifier import ReviewClassifier
from skllm_calib.decisions.policy.policy import PolicyEvidence, ReviewPolicy
from skllm_calib.decisions.prediction_sets import PredictionSets
from skllm_calib.decisions.risk_matrix import RiskMatrix
from skllm_calib.decisions.thresholds import AcceptThreshold, accept_threshold

__all__ = [
    "AcceptThreshold",
    "PolicyEvidence",
    "PredictionSets",
    "ReviewClassifier",
    "ReviewPolicy",
    "RiskMatrix",
    "accept_threshold",
]
