"""What a saved classifier may hold, and how it is kept: as data, not as a pickle.

A pickle runs whatever its file says. `save` of a classifier writes JSON instead, and `load` makes
objects of the types named here alone; the same types are to be trusted when a classifier is loaded
with skops, which knows those of NumPy and most of scikit-learn's. Backends, signals and calibrators
come from their tables, so that a new one needs no line here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch

from skllm_calib._version import __version__
from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.calibration.calibrators import CALIBRATORS
from skllm_calib.calibration.calibrators.confidence_curve import ConfidenceCurve
from skllm_calib.calibration.card import CalibrationCard
from skllm_calib.calibration.ensemble.ensemble import LLMEnsembleClassifier
from skllm_calib.decisions._impact import ImpactLevels
from skllm_calib.decisions.classifier import ReviewClassifier
from skllm_calib.decisions.policy import ReviewPolicy
from skllm_calib.decisions.policy.fitted import FittedPolicy
from skllm_calib.decisions.prediction_sets import PredictionSets
from skllm_calib.decisions.risk_matrix import RiskMatrix
from skllm_calib.decisions.rules import RULES, Findings, PolicyEvidence, Promise
from skllm_calib.evidence.backends.providers import backend_classes
from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.evidence.money.budget import Budget
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.signals import SIGNALS, FusedSignal, OrderAveragedSignal
from skllm_calib.exceptions import NotCertifiableError
from skllm_calib.utils.plain_data import from_plain, to_plain

__all__ = ["TRUSTED_TYPES", "from_json", "model_file", "to_json"]

_TYPES: tuple[type, ...] = (
    # classifiers, and what is in them
    LLMClassifier,
    LLMEnsembleClassifier,
    CalibratedLLMClassifier,
    CalibrationCard,
    Prompt,
    ResponseCache,
    Budget,
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

# What decides, which has its own JSON and is kept with skops as well.
_DECIDING: tuple[type, ...] = (
    ReviewClassifier,
    ReviewPolicy,
    FittedPolicy,
    *RULES.values(),
    Findings,
    PolicyEvidence,
    Promise,
    NotCertifiableError,
    PredictionSets,
    RiskMatrix,
    ImpactLevels,
)
# What watches, and the parts of its state.
_WATCHING = (
    "monitor.CalibrationMonitor",
    "_detectors.Cusum",
    "_detectors.EDetector",
    "_drift.ConfidenceDrift",
    "_drift.LabelDrift",
    "_drift._Ranks",
    "_incoming.Waiting",
    "_model.ModelWatch",
    "_state.MonitorState",
    "_watches.LabelWatch",
    "_watches.Reference",
    "_watches.RowWatch",
    "alarms.CalibrationAlarm",
)

#: Full names of what an estimator of this package may hold, for
#: ``skops.io.load(file, trusted=TRUSTED_TYPES)``. None of these types does anything while it is
#: loaded. What an estimator does later is up to the file: for example which server it asks. Types
#: of other packages, such as a backend that an entry point adds, are not included.
TRUSTED_TYPES: tuple[str, ...] = (
    *(f"{t.__module__}.{t.__qualname__}" for t in (*_TYPES, *_DECIDING)),
    *(f"skllm_calib.operations.monitor.{name}" for name in _WATCHING),
)

_FORMAT = "skllm_calib.classifier"
_VERSION = 1
_BY_NAME = {t.__name__: t for t in (*_TYPES, FrozenEstimator) if not issubclass(t, Path)}


def to_json(classifier: Any) -> str:
    """Return a classifier, fitted or not, as JSON.

    Parameters
    ----------
    classifier : estimator
        One of this package, and what it holds: prompts, signals, calibrators, and backends by
        their parameters.

    Raises
    ------
    TypeError
        If it holds something of another package, such as a classifier of scikit-learn.
    """
    plain = to_plain(classifier, _BY_NAME)
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "skllm_calib": __version__,
        "sha256": _digest(plain),
        "classifier": plain,
    }
    return json.dumps(content, allow_nan=False) + "\n"


def from_json(text: str) -> Any:
    """Return the classifier that :func:`to_json` wrote. Nothing in the text is run.

    Raises
    ------
    ValueError
        If it is something else, of a later version, names a type that is not known here, or was
        changed since it was written.
    """
    try:
        content = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"it is no saved classifier, as 'format' is not {_FORMAT!r}")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"it has version {content.get('version')!r}, and this release reads {_VERSION}: update "
            "skllm-calib"
        )
    classifier = from_plain(content["classifier"], _BY_NAME)
    if content.get("sha256") != _digest(content["classifier"]):
        raise ValueError("it was changed since it was saved, as its 'sha256' shows")
    return classifier


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def model_file(folder: str | Path) -> Path:
    """Return the file of a saved classifier: ``model.json``, or the pickle of an earlier release.

    Parameters
    ----------
    folder : str or path-like
        Where :meth:`CalibratedLLMClassifier.save` wrote to.
    """
    data, pickled = (Path(folder) / name for name in ("model.json", "model.joblib"))
    return data if data.exists() or not pickled.exists() else pickled
