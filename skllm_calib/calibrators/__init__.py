"""Calibrators: maps from the log-probabilities of the classes to calibrated probabilities.

Each is a scikit-learn classifier whose features are the (n, K) log-probabilities of its own K
classes, with columns in sorted order. None knows that a language model was involved: a saved
matrix does as well.
"""

from __future__ import annotations

import difflib

from sklearn.base import clone

from skllm_calib.calibrators.auto import AutoCalibrator
from skllm_calib.calibrators.base import BaseCalibrator
from skllm_calib.calibrators.isotonic import IsotonicCalibration
from skllm_calib.calibrators.platt import PlattScaling
from skllm_calib.calibrators.temperature import TemperatureScaling
from skllm_calib.calibrators.vector import VectorScaling

__all__ = [
    "AutoCalibrator",
    "BaseCalibrator",
    "IsotonicCalibration",
    "PlattScaling",
    "TemperatureScaling",
    "VectorScaling",
    "get_calibrator",
]

_BY_NAME: dict[str, type[BaseCalibrator]] = {
    "auto": AutoCalibrator,
    "isotonic": IsotonicCalibration,
    "platt": PlattScaling,
    "sigmoid": PlattScaling,
    "temperature": TemperatureScaling,
    "vector": VectorScaling,
}


def get_calibrator(method: str | BaseCalibrator) -> BaseCalibrator:
    """Return an unfitted calibrator from its name, or an unfitted copy of the one given.

    Parameters
    ----------
    method : {"auto", "isotonic", "platt", "sigmoid", "temperature", "vector"} or BaseCalibrator
        Name, or calibrator with its parameters; "sigmoid" is another word for "platt".

    Returns
    -------
    BaseCalibrator
        A calibrator of one's own to fit.

    Examples
    --------
    >>> from skllm_calib.calibrators import get_calibrator
    >>> get_calibrator("vector")
    VectorScaling()
    >>> get_calibrator("isotnic")
    Traceback (most recent call last):
    ...
    ValueError: Unknown calibration method 'isotnic'; did you mean 'isotonic'? Valid names: ...
    """
    if isinstance(method, BaseCalibrator):
        copy: BaseCalibrator = clone(method)
        return copy
    names = ", ".join(repr(name) for name in sorted(_BY_NAME))
    if not isinstance(method, str):
        raise TypeError(
            f"method must be a name or a calibrator object, got {method!r}. Valid names: {names}."
        )
    if method not in _BY_NAME:
        close = difflib.get_close_matches(method.lower(), _BY_NAME, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ValueError(f"Unknown calibration method {method!r}{hint} Valid names: {names}.")
    return _BY_NAME[method]()
