"""What a saved classifier may hold: the types to trust when one is loaded with skops.

A pickle runs whatever its file says. skops makes objects only of those types that the reader has
named. It knows those of NumPy and most of scikit-learn's; here are the others. Backends, signals
and calibrators come from their tables, so that a new one needs no line here.
"""

from __future__ import annotations

from pathlib import Path

from sklearn.utils import Bunch

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.calibration.calibrators import CALIBRATORS
from skllm_calib.calibration.calibrators.confidence_curve import ConfidenceCurve
from skllm_calib.calibration.card import CalibrationCard
from skllm_calib.calibration.ensemble.ensemble import LLMEnsembleClassifier
from skllm_calib.evidence.backends.providers import backend_classes
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
    *backend_classes().values(),
    # signals, and those that hold others
    *SIGNALS.values(),
    FusedSignal,
    OrderAveragedSignal,
    # calibrators, of which some have two names, and the second stage of the automatic one
    *dict.fromkeys(CALIBRATORS.values()),
    ConfidenceCurve,
)

#: Full names of what an estimator of this package may hold, for
#: ``skops.io.load(file, trusted=TRUSTED_TYPES)``. None of these types does anything while it is
#: loaded. What an estimator does later is up to the file: for example which server it asks. Types
#: of other packages, such as a backend that an entry point adds, are not included.
TRUSTED_TYPES: tuple[str, ...] = tuple(f"{t.__module__}.{t.__qualname__}" for t in _TYPES)
