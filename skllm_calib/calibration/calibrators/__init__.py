"""Calibrators: maps from the log-probabilities of the classes to calibrated probabilities.

Each is a scikit-learn classifier whose features are the (n, K) log-probabilities of its own K
classes, with columns in sorted order. None knows that a language model was involved: a saved
matrix does as well.
"""

from __future__ import annotations

import difflib
from typing import Any

from sklearn.base import clone

from skllm_calib.calibration.calibrators.auto import AutoCalibrator
from skllm_calib.calibration.calibrators.base import BaseCalibrator
from skllm_calib.calibration.calibrators.beta import BetaCalibration
from skllm_calib.calibration.calibrators.binning import HistogramBinning, ScalingBinning
from skllm_calib.calibration.calibrators.constant import ConstantCalibration
from skllm_calib.calibration.calibrators.dirichlet import DirichletCalibration
from skllm_calib.calibration.calibrators.discrete import DiscreteCalibration
from skllm_calib.calibration.calibrators.ensemble_temperature import EnsembleTemperatureScaling
from skllm_calib.calibration.calibrators.isotonic import IsotonicCalibration
from skllm_calib.calibration.calibrators.matrix import MatrixScaling
from skllm_calib.calibration.calibrators.platt import PlattScaling
from skllm_calib.calibration.calibrators.temperature import TemperatureScaling
from skllm_calib.calibration.calibrators.vector import VectorScaling
from skllm_calib.calibration.calibrators.venn_abers import VennAbersCalibration
from skllm_calib.exceptions import InvalidInput
from skllm_calib.utils.addresses import ClassTable

__all__ = [
    "CALIBRATORS",
    "AutoCalibrator",
    "BaseCalibrator",
    "BetaCalibration",
    "ConstantCalibration",
    "DirichletCalibration",
    "DiscreteCalibration",
    "EnsembleTemperatureScaling",
    "HistogramBinning",
    "IsotonicCalibration",
    "MatrixScaling",
    "PlattScaling",
    "ScalingBinning",
    "TemperatureScaling",
    "VectorScaling",
    "VennAbersCalibration",
    "resolve_calibrator",
]

_HERE = "skllm_calib.calibration.calibrators"

CALIBRATORS: ClassTable[BaseCalibrator] = ClassTable(
    {
        "auto": f"{_HERE}.auto:AutoCalibrator",
        "beta": f"{_HERE}.beta:BetaCalibration",
        "constant": f"{_HERE}.constant:ConstantCalibration",
        "dirichlet": f"{_HERE}.dirichlet:DirichletCalibration",
        "discrete": f"{_HERE}.discrete:DiscreteCalibration",
        "ensemble_temperature": f"{_HERE}.ensemble_temperature:EnsembleTemperatureScaling",
        "histogram": f"{_HERE}.binning:HistogramBinning",
        "isotonic": f"{_HERE}.isotonic:IsotonicCalibration",
        "matrix": f"{_HERE}.matrix:MatrixScaling",
        "platt": f"{_HERE}.platt:PlattScaling",
        "scaling_binning": f"{_HERE}.binning:ScalingBinning",
        "sigmoid": f"{_HERE}.platt:PlattScaling",
        "temperature": f"{_HERE}.temperature:TemperatureScaling",
        "vector": f"{_HERE}.vector:VectorScaling",
        "venn_abers": f"{_HERE}.venn_abers:VennAbersCalibration",
    }
)
"""The classes of the calibrators that have a name, by that name: the one line a new one needs."""

__all__ += [name for name in CALIBRATORS.class_names if name not in __all__]


def __getattr__(name: str) -> Any:
    if name in CALIBRATORS.class_names:
        return CALIBRATORS[CALIBRATORS.class_names[name]]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def resolve_calibrator(method: str | BaseCalibrator) -> BaseCalibrator:
    """Return an unfitted calibrator from its name, or an unfitted copy of the one given.

    Parameters
    ----------
    method : str or BaseCalibrator
        A name in `CALIBRATORS` ("temperature", "vector", "auto", ...), or a calibrator with its
        parameters.

    Returns
    -------
    BaseCalibrator
        A new, unfitted calibrator.

    Raises
    ------
    InvalidInput
        If no calibrator has this name.
    TypeError
        If it is neither a name nor a calibrator.

    Examples
    --------
    >>> from skllm_calib.calibrators import resolve_calibrator
    >>> resolve_calibrator("vector")
    VectorScaling()
    >>> resolve_calibrator("isotnic")
    Traceback (most recent call last):
    ...
    skllm_calib.exceptions.InvalidInput: Unknown calibration method 'isotnic'; did you mean
    'isotonic'? Valid names: ...
    """
    if isinstance(method, BaseCalibrator):
        copy: BaseCalibrator = clone(method)
        return copy
    names = ", ".join(repr(name) for name in sorted(CALIBRATORS))
    if not isinstance(method, str):
        raise TypeError(
            f"method must be a name or a calibrator object, got {method!r}. Valid names: {names}."
        )
    if method not in CALIBRATORS:
        close = difflib.get_close_matches(method.lower(), CALIBRATORS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise InvalidInput(
            f"Unknown calibration method {method!r}{hint} Valid names: {names}.",
            "method",
            value=method,
        )
    return CALIBRATORS[method]()
