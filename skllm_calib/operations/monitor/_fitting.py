"""From reference rows to watches that have seen nothing yet."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.operations.monitor._drift import ConfidenceDrift, LabelDrift
from skllm_calib.operations.monitor._incoming import ReferenceRows, watched
from skllm_calib.operations.monitor._run_length import cusum_thresholds
from skllm_calib.operations.monitor._watches import LabelWatch, Reference, RowWatch

__all__ = ["DETECTORS", "describe", "fresh_watches", "warn_of_a_gap", "watched_column"]

Floats = NDArray[np.float64]

DETECTORS = ("cusum", "e_detector", "confidences", "predicted_labels")

# A gap among the reference rows of so many standard errors beyond the tolerance is no chance.
_STANDARD_ERRORS = 3


def watched_column(kind: object, classes: NDArray[Any]) -> int | None:
    """Return the column that is watched, or None for that of the most probable class."""
    if isinstance(kind, str) and kind == "top-label":
        return None
    names = classes.tolist()
    if kind not in names:
        raise ValueError(f"kind must be 'top-label' or one of the classes {names}, got {kind!r}.")
    return int(names.index(kind))


def describe(given: ReferenceRows, column: int | None) -> Reference:
    """Return what the reference rows are like."""
    confidence, code = watched(given.proba, column)
    shares = np.bincount(given.proba.argmax(axis=1), given.weight, given.classes.size)
    accuracy = None
    if given.codes is not None:
        accuracy = float(np.average(code == given.codes, weights=given.weight))
    return Reference(
        confidence=float(np.average(confidence, weights=given.weight)),
        accuracy=accuracy,
        names=given.classes.tolist(),
        shares=(shares / shares.sum()).tolist(),
    )


def warn_of_a_gap(given: ReferenceRows, column: int | None, tolerance: float) -> None:
    """Warn if confidence and accuracy of the reference rows differ by more than the tolerance."""
    if given.codes is None:
        return
    confidence, code = watched(given.proba, column)
    residual = confidence - (code == given.codes)
    gap = float(np.average(residual, weights=given.weight))
    spread = given.weight * (residual - gap)
    error = float(np.sqrt(spread @ spread) / given.weight.sum())
    if abs(gap) - tolerance > _STANDARD_ERRORS * error:
        warnings.warn(
            f"mean confidence less accuracy of the {len(residual)} reference rows is {gap:+.3f} "
            f"(standard error {error:.3f}), beyond tolerance={tolerance}: expect an alarm soon. "
            "Calibrate first.",
            UserWarning,
            stacklevel=3,
        )


def fresh_watches(
    given: ReferenceRows,
    column: int | None,
    reference: Reference,
    parameters: dict[str, Any],
    max_weight: float,
) -> dict[str, Any]:
    """Return the state of both watches at the start, to begin from and to come back to."""
    used, tolerance = parameters["detectors"], parameters["tolerance"]
    run_length, rows_run_length = (
        float(parameters[name]) for name in ("average_run_length", "unlabelled_run_length")
    )
    confidence, _ = watched(given.proba, column)
    cusum = e_detector = confidences = predicted = None
    if "cusum" in used:
        # Half-way between what is fine and what is to be found: the best for that drift.
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
