"""What an alarm says: what, when, since when, why, and what to do."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["DETECTORS", "CalibrationAlarm", "labels_to_recalibrate"]

# What can be chosen; alarms of the model itself cannot be turned off.
DETECTORS = ("cusum", "e_detector", "confidences", "predicted_labels")

# A recalibration is worth its name if the error that is left is about two points.
_ERROR_LEFT = 0.02
_FEWEST_LABELS = 50
_FEWEST_LABELS_A_CLASS = 10


@dataclass(frozen=True)
class CalibrationAlarm:
    """An alarm of `CalibrationMonitor`.

    Attributes
    ----------
    kind : str
        What raised it: "cusum", "e_detector" (confidence and accuracy differ), "confidences",
        "predicted_labels" (rows look different), "fingerprint" or "probes" (another model answers).
    row : int
        Number of the latest row when it was raised, from 0 at `fit`; -1 before the first row.
    n_labels : int
        Number of labels by then.
    statistic, threshold : float
        What was compared.
    since_row : int
        The row where the change began, as far as can be told: a maximum likelihood estimate.
    reason : str
        Why, in words and numbers.
    action : str
        What to do about it.
    labels_needed : int
        How many labels of rows since `since_row` a recalibration takes.
    """

    kind: str
    row: int
    n_labels: int
    statistic: float
    threshold: float
    since_row: int
    reason: str
    action: str
    labels_needed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the alarm as plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind}, row {self.row:,}: {self.reason} {self.action}"


def labels_to_recalibrate(accuracy: float, n_classes: int) -> int:
    """Return about how many labels a recalibration takes.

    With n labels even a single share is off by ``sqrt(2 / pi * a * (1 - a) / n)`` on average, with
    a the accuracy. The n for which this is two points is rounded up to tens: 210 at an accuracy of
    .85, 330 at .7. It is at least 50, and ten a class.

    Parameters
    ----------
    accuracy : float
        Accuracy to reckon with, in [0, 1].
    n_classes : int
        Number of classes.
    """
    by_error = 2 / math.pi * accuracy * (1 - accuracy) / _ERROR_LEFT**2
    fewest = max(_FEWEST_LABELS, _FEWEST_LABELS_A_CLASS * n_classes)
    return max(fewest, 10 * math.ceil(by_error / 10))


def gap_reason(confidence: float, accuracy: float, n_labels: int, since_row: int) -> str:
    """Say how far confidence and accuracy are apart."""
    which = "too high" if confidence > accuracy else "too low"
    return (
        f"The confidences are {which}: {confidence:.1%} on average over the {n_labels:,} label(s) "
        f"since about row {since_row:,}, of which {accuracy:.1%} are right."
    )


def gap_action(needed: int, n_labels: int, since_row: int) -> str:
    """Say how to recalibrate, and how many of the labels are there."""
    missing = max(0, needed - n_labels)
    have = f"{n_labels:,} are there" + (f", about {missing:,} more are needed" * (missing > 0))
    return f"Recalibrate with about {needed:,} labels of rows since row {since_row:,} ({have})."


def look_action(needed: int, since_row: int) -> str:
    """Say what to do when rows look different and labels have not told yet."""
    return (
        f"Label about {needed:,} rows since row {since_row:,}: if confidence and accuracy differ, "
        "recalibrate with them."
    )


def shares_action(needed: int, since_row: int) -> str:
    """Say what to do when labels are predicted more or less often."""
    return (
        f"{look_action(needed, since_row)} If only the class shares have changed, "
        "estimate_class_prior and adjust_to_prior correct for it without labels."
    )


def model_action(needed: int, since_row: int) -> str:
    """Say what to do when another model answers."""
    return (
        f"Recalibrate with about {needed:,} labels of rows since row {since_row:,}; until then the "
        "probabilities are not calibrated for this model."
    )
