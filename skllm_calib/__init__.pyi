# The public names of the package: read by type checkers, and by lazy_loader when it is imported.

from . import (
    backends,
    calibration,
    calibrators,
    datasets,
    decisions,
    display,
    distributed,
    exceptions,
    metrics,
    operations,
    signals,
)
from ._version import __version__
from .calibration.calibrated import CalibratedLLMClassifier
from .calibration.ensemble.ensemble import LLMEnsembleClassifier
from .decisions.classifier import ReviewClassifier
from .decisions.policy.policy import ReviewPolicy
from .decisions.prediction_sets import PredictionSets
from .decisions.risk_matrix import RiskMatrix
from .decisions.thresholds import accept_threshold
from .display.reliability import ReliabilityDisplay
from .evidence.backends.anthropic.backend import AnthropicBackend
from .evidence.backends.llama_cpp.backend import LlamaCppBackend
from .evidence.backends.mistral.backend import MistralBackend
from .evidence.backends.openai.backend import OpenAIBackend
from .evidence.backends.transformers.backend import TransformersBackend
from .evidence.cache import ResponseCache
from .evidence.classifier import LLMClassifier
from .evidence.money.budget import Budget
from .evidence.prompts import Prompt
from .metrics.calibration_error import expected_calibration_error
from .metrics.scorers import calibration_scoring, ece_scorer, log_loss_scorer
from .operations.monitor.monitor import CalibrationMonitor
from .operations.queue.queue import ReviewQueue
from .operations.report.report import CalibrationReport

__all__ = [
    "AnthropicBackend",
    "Budget",
    "CalibratedLLMClassifier",
    "CalibrationMonitor",
    "CalibrationReport",
    "LLMClassifier",
    "LLMEnsembleClassifier",
    "LlamaCppBackend",
    "MistralBackend",
    "OpenAIBackend",
    "PredictionSets",
    "Prompt",
    "ReliabilityDisplay",
    "ResponseCache",
    "ReviewClassifier",
    "ReviewPolicy",
    "ReviewQueue",
    "RiskMatrix",
    "TransformersBackend",
    "__version__",
    "accept_threshold",
    "backends",
    "calibration",
    "calibration_scoring",
    "calibrators",
    "datasets",
    "decisions",
    "display",
    "distributed",
    "ece_scorer",
    "exceptions",
    "expected_calibration_error",
    "log_loss_scorer",
    "metrics",
    "operations",
    "signals",
]
