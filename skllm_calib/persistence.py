"""What a saved classifier may hold: the types to trust when one is loaded with skops.

A pickle runs whatever its file says. skops makes objects of those types only that the reader has
named. It knows those of NumPy and most of scikit-learn's; here are the others.
"""

from __future__ import annotations

from pathlib import Path

from sklearn.utils import Bunch

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.calibration.calibrators import (
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
from skllm_calib.calibration.calibrators._confidence_curve import ConfidenceCurve
from skllm_calib.calibration.card import CalibrationCard
from skllm_calib.calibration.ensemble.ensemble import LLMEnsembleClassifier
from skllm_calib.evidence.backends import (
    AnthropicBackend,
    LlamaCppBackend,
    MistralBackend,
    OpenAIBackend,
    TestingBackend,
    TransformersBackend,
)
from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.signals import SIGNALS, FusedSignal, OrderAveragedSignal

__all__ = ["TRUSTED_TYPES"]

_TYPES: tuple[type, ...] = (
    # classifiers, and what is in them
    LLMClassifier,
    LLMEnsembleClassifier,
    CalibratedLLMClassifier,
    CalibrationCard,
    Prompt,
    ResponseCache,
    # two that are not ours and harmless: a file given as `cache`, an ensemble's members by name
    type(Path()),
    Bunch,
    # backends
    AnthropicBackend,
    LlamaCppBackend,
    MistralBackend,
    OpenAIBackend,
    TestingBackend,
    TransformersBackend,
    # signals
    *SIGNALS.values(),
    FusedSignal,
    OrderAveragedSignal,
    # calibrators
    AutoCalibrator,
    BetaCalibration,
    ConfidenceCurve,
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

#: Full names of what an estimator of this package may hold, for
#: ``skops.io.load(file, trusted=TRUSTED_TYPES)``. None of these types does anything while it is
#: loaded. What the file says they should do afterwards is another matter: whom to ask, for one.
TRUSTED_TYPES: tuple[str, ...] = tuple(f"{t.__module__}.{t.__qualname__}" for t in _TYPES)
