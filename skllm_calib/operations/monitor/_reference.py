"""Reference rows -> the state of a monitor that has seen no other rows yet."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.validation import Checked
from skllm_calib.operations.monitor._drift import ConfidenceDrift, LabelDrift
from skllm_calib.operations.monitor._incoming import check_weights, watched
from skllm_calib.operations.monitor._model import ModelWatch
from skllm_calib.operations.monitor._run_length import cusum_thresholds
from skllm_calib.operations.monitor._state import MonitorState
from skllm_calib.operations.monitor._watches import LabelWatch, Reference, RowWatch
from skllm_calib.operations.monitor.alarms import DETECTORS

__all__ = [
    "check_detectors",
    "new_state",
]

Floats = NDArray[np.float64]

_MODEL = ("fingerprint", "probes")

# A gap of this many standard errors beyond the tolerance is not due to chance.
_STANDARD_ERRORS = 3


def check_detectors(detectors: Sequence[str], *, drift: float, tolerance: float) -> None:
    """Refuse detectors that are not known, and a drift that is tolerated."""
    unknown = [name for name in detectors if name not in DETECTORS]
    if unknown:
        raise InvalidInput(
            f"detectors must be among {DETECTORS}, got {unknown[0]!r}",
            "detectors",
            value=unknown[0],
        )
    if not drift > tolerance:
        raise InvalidInput(
            f"drift must be above tolerance={tolerance}, got {drift}: a gap within the tolerance "
            "raises no alarm",
            "drift",
            value=drift,
        )


def new_state(
    given: Checked, parameters: dict[str, Any], *, fingerprint: str | None, probes: Floats | None
) -> MonitorState:
    """Return the state of a monitor that has seen nothing but the reference rows.

    Parameters
    ----------
    given : Checked
        The reference rows; the codes are -1 without labels.
    parameters : dict
        Those of the monitor.
    fingerprint, probes : str or None, ndarray or None
        What identifies the model.
    """
    column = _watched_column(parameters["kind"], given.classes)
    largest = parameters["max_weight"]
    largest = float(given.weight.max() if largest is None else largest)
    check_weights(given.weight, len(given.weight), largest)
    _warn_of_a_gap(given, column, parameters["tolerance"])
    reference = _describe(given, column)
    return MonitorState(
        classes=given.classes,
        column=column,
        max_weight=largest,
        # A cumulative sum is tuned to the weights of the reference; one tells of no others.
        only_weight=float(given.weight[0]) if np.ptp(given.weight) == 0 else None,
        reference=reference,
        fresh=_fresh_watches(given, column, reference, parameters, largest),
        model=ModelWatch(fingerprint, probes, parameters["probe_tolerance"], reference),
        n_alarms=dict.fromkeys((*parameters["detectors"], *_MODEL), 0),
    )


def _watched_column(kind: object, classes: NDArray[Any]) -> int | None:
    """Return the column that is watched, or None for that of the most probable class."""
    if isinstance(kind, str) and kind == "top-label":
        return None
    names = classes.tolist()
    if kind not in names:
        raise InvalidInput(
            f"kind must be 'top-label' or one of the classes {names}, got {kind!r}.",
            "kind",
            value=kind,
        )
    return int(names.index(kind))


def _describe(given: Checked, column: int | None) -> Reference:
    """Return what the reference rows are like."""
    confidence, code = watched(given.proba, column)
    shares = np.bincount(given.proba.argmax(axis=1), given.weight, given.classes.size)
    accuracy = None
    if given.codes.min() >= 0:  # there were labels
        accuracy = float(np.average(code == given.codes, weights=given.weight))
    return Reference(
        confidence=float(np.average(confidence, weights=given.weight)),
        accuracy=accuracy,
        names=given.classes.tolist(),
        shares=(shares / shares.sum()).tolist(),
    )


def _warn_of_a_gap(given: Checked, column: int | None, tolerance: float) -> None:
    """Warn if confidence and accuracy of the reference rows differ by more than the tolerance."""
    if given.codes.min() < 0:  # there were no labels
        return
    confidence, code = watched(given.proba, column)
    residual = confidence - (code == given.codes)
    gap = float(np.average(residual, weights=given.weight))
    spread = given.weight * (residual - gap)
    error = float(np.sqrt(spread @ spread) / given.weight.sum())
    if abs(gap) - tolerance > _STANDARD_ERRORS * error:
        warnings.warn(
            f"mean confidence minus accuracy of the {len(residual)} reference rows is {gap:+.3f} "
            f"(standard error {error:.3f}), beyond tolerance={tolerance}: calibrate first, or "
            "expect an alarm soon.",
            UserWarning,
            stacklevel=4,
        )


def _fresh_watches(
    given: Checked,
    column: int | None,
    reference: Reference,
    parameters: dict[str, Any],
    max_weight: float,
) -> dict[str, Any]:
    """Return the initial state of both watches, which `reset` returns to."""
    used, tolerance = parameters["detectors"], parameters["tolerance"]
    run_length, rows_run_length = (
        float(parameters[name]) for name in ("average_run_length", "unlabelled_run_length")
    )
    confidence, _ = watched(given.proba, column)
    cusum = e_detector = confidences = predicted = None
    if "cusum" in used:
        # Half-way between the tolerated gap and the drift to be found is best for that drift.
        allowance = (tolerance + parameters["drift"]) / 2
        thresholds = cusum_thresholds(
            confidence,
            given.weight,
            allowance=allowance,
            tolerance=tolerance,
            run_length=run_length,
        )
        cusum = LabelWatch.new_cusum(allowance, thresholds)
    if "e_detector" in used:
        e_detector = LabelWatch.new_e_detector(run_length)
    if "confidences" in used:
        confidences = ConfidenceDrift.from_reference(confidence, given.weight, rows_run_length)
    if "predicted_labels" in used:
        predicted = LabelDrift.from_reference(
            given.proba.argmax(axis=1), given.weight, given.classes.size, rows_run_length
        )
    labels = LabelWatch(cusum, e_detector, tolerance, max_weight, reference)
    rows = RowWatch(confidences, predicted, reference)
    return {"labels": labels.to_dict(), "rows": rows.to_dict()}
