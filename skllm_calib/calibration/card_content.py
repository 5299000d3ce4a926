"""What a calibration card says: what was calibrated and how, and the figures on held-out rows."""

from __future__ import annotations

import datetime
import platform
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone

from skllm_calib._version import __version__
from skllm_calib.calibration.calibrators import AutoCalibrator, BaseCalibrator
from skllm_calib.log_proba.folds import N_FOLDS, stratified_folds
from skllm_calib.log_proba.numerics import Floats, log_normalise
from skllm_calib.log_proba.parameters import DEFAULT_CONFIDENCE
from skllm_calib.metrics.headline import measure

__all__ = [
    "describe_estimator",
    "describe_method",
    "describe_off_label",
    "describe_rows",
    "describe_usage",
    "held_out_figures",
]


def describe_rows(y: NDArray[Any], classes: NDArray[Any]) -> dict[str, Any]:
    """Say when the card was written, and how many rows of each class there were."""
    counts = {str(c): int((y == c).sum()) for c in classes}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "n": len(y),
        "classes": classes.tolist(),
        "n_by_class": counts,
        "absent_classes": [label for label, n in counts.items() if n == 0],
    }


def describe_estimator(
    estimator: Any, fingerprint: Mapping[str, Any] | None, served_model: str | None
) -> dict[str, Any]:
    """Name the model, the question and the evidence; of an ensemble, those of all members."""
    fingerprint = fingerprint or {}
    members = list(fingerprint.get("members", {}).values()) or [fingerprint]
    return {
        "estimator": type(estimator).__name__,
        "model": _joined(m.get("backend", {}).get("model") for m in members),
        "model_as_served": served_model,
        "prompt_hash": _joined(m.get("prompt") for m in members),
        "signal": _joined(_signal_text(m.get("signal")) for m in members),
        "signal_reason": getattr(estimator, "signal_reason_", None),
        **{k: fingerprint[k] for k in ("prior_correction",) if k in fingerprint},
    }


def describe_off_label(
    off_label: NDArray[np.float64] | None, usable: NDArray[np.bool_]
) -> dict[str, Any]:
    """Say how much of the evidence on the rows fell on no label, where that is known."""
    known = np.empty(0) if off_label is None else off_label[usable]
    known = known[~np.isnan(known)]
    if not known.size:
        return {}
    return {"off_label": {"mean": float(known.mean()), "most": float(known.max())}}


def describe_usage(usage: Any, before: Any) -> dict[str, Any]:
    """Say what the scores took, where the estimator knows; `before`: what it had used already."""
    if usage is None:
        return {}
    counts = (usage if before is None else usage - before).to_dict()
    return {"usage": {name: n for name, n in counts.items() if n or name == "n_requests"}}


def describe_method(method: Any, calibrator: BaseCalibrator) -> dict[str, Any]:
    """Name the calibrator and its parameters, and the versions of what fitted it."""
    return {
        "method": method if isinstance(method, str) else type(method).__name__,
        **_describe_calibrator(calibrator),
        "versions": {
            "skllm-calib": __version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        },
    }


def held_out_figures(
    calibrator: BaseCalibrator,
    log_proba: Floats,
    y: NDArray[Any],
    classes: NDArray[Any],
    weight: NDArray[Any] | None,
) -> dict[str, Any] | None:
    """Measure before and after, each row by a copy of the calibrator that has not seen it.

    Returns
    -------
    dict or None
        None where there are too few rows, weights or classes for it.
    """
    if len(y) < 2 * N_FOLDS or len(classes) < 2:
        return None
    after = np.empty((len(y), len(classes)))
    for train, test in stratified_folds(y):
        part = None if weight is None else weight[train]
        if part is not None and not part.any():
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fit to all rows has said it already
            fold = clone(calibrator).fit(log_proba[train], y[train], part, classes=classes)
        after[test] = fold.predict_proba(log_proba[test])
    before = np.exp(log_normalise(log_proba))
    return {
        "how": f"{len(y)} rows, calibrator refitted in {N_FOLDS} folds",
        "confidence": DEFAULT_CONFIDENCE,
        "before": _figures(y, before, classes, weight),
        "after": _figures(y, after, classes, weight),
    }


def _figures(
    y: NDArray[Any], proba: Floats, classes: NDArray[Any], weight: NDArray[Any] | None
) -> dict[str, Any]:
    proba = proba / proba.sum(axis=1, keepdims=True)
    found = measure(y, proba, classes, weight, n_resamples=500)
    names = ("log_loss", "brier", "ece", "ece_floor", "accuracy")
    ends = [found["ece_low"], found["ece_high"]]
    return {name: found[name] for name in names} | {"ece_interval": ends}


def _describe_calibrator(calibrator: BaseCalibrator) -> dict[str, Any]:
    """Name the calibrator; of a mean of several, also what each member scored."""
    out: dict[str, Any] = {"calibrator": type(calibrator).__name__}
    if isinstance(calibrator, AutoCalibrator):
        weights, scores = calibrator.weights_, calibrator.scores_
        out["calibrator"] = calibrator.chosen_
        if scores:
            out["calibrator"] = f"mean of {len(weights)}, mostly {calibrator.chosen_}"
            out["members"] = {n: {"weight": w} | scores[n] for n, w in weights.items()}
        out["expected_ece"] = _known(calibrator.expected_ece_)
    if calibrator.score_scale_ != 1:
        out["score_scale"] = calibrator.score_scale_
    return out | {"parameters": calibrator.parameters_}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _signal_text(signal: Any) -> str | None:
    """Write the identity of a signal as a user would: a name, with what is not the default."""
    if not isinstance(signal, dict):
        return None if signal is None else str(signal)
    named = {k: v for k, v in signal.items() if k != "name"}
    inner = [_signal_text(v) if k == "signal" else f"{k}={v!r}" for k, v in named.items()]
    if "signals" in named:
        parts = zip(named["signals"], named["weights"], strict=True)
        return " + ".join(f"{weight:.3g} {_signal_text(part)}" for part, weight in parts)
    return f"{signal['name']}({', '.join(map(str, inner))})"


def _joined(values: Iterable[str | None]) -> str | None:
    """Join what the members of an ensemble say, each value once."""
    return ", ".join(dict.fromkeys(filter(None, values))) or None
