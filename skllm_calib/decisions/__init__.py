"""Acting on calibrated probabilities: policies with a promise, label sets, risk matrices."""

from skllm_calib.decisions.classifier import ReviewClassifier
from skllm_calib.decisions.policy import ReviewPolicy
from skllm_calib.decisions.prediction_sets import PredictionSets
from skllm_calib.decisions.risk_matrix import RiskMatrix
from skllm_calib.decisions.rules import (
    RULES,
    DecisionRule,
    ExpectedCost,
    Findings,
    PolicyEvidence,
    Promise,
    ReviewBudget,
    TargetPrecision,
)
from skllm_calib.decisions.thresholds import AcceptThreshold, accept_threshold

__all__ = [
    "RULES",
    "AcceptThreshold",
    "DecisionRule",
    "ExpectedCost",
    "Findings",
    "PolicyEvidence",
    "PredictionSets",
    "Promise",
    "ReviewBudget",
    "ReviewClassifier",
    "ReviewPolicy",
    "RiskMatrix",
    "TargetPrecision",
    "accept_threshold",
]
