"""The watches of labelled rows and of all rows: running totals, detectors, and their alarms."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.operations.monitor import alarms
from skllm_calib.operations.monitor._detectors import (
    N_RESIDUAL_BETS,
    Cusum,
    EDetector,
    residual_bets,
)
from skllm_calib.operations.monitor._drift import ConfidenceDrift, LabelDrift
from skllm_calib.operations.monitor.alarms import CalibrationAlarm, labels_to_recalibrate

__all__ = ["LabelWatch", "Now", "Reading", "Reference", "RowWatch"]

Floats = NDArray[np.float64]


class Reference(NamedTuple):
    """What the reference rows were like: ``names`` and ``shares`` of the predicted labels."""

    confidence: float
    accuracy: float | None
    names: list[Any]
    shares: list[float]

    @property
    def expected_accuracy(self) -> float:
        return self.confidence if self.accuracy is None else self.accuracy


class Now(NamedTuple):
    """The current time: number of the latest row, and of the labels by then."""

    row: int
    n_labels: int


class Reading(NamedTuple):
    """Statistic of a detector and the threshold where it raises an alarm."""

    statistic: float | None
    threshold: float


class LabelWatch:
    """Confidence minus correctness of the labelled rows.

    Parameters
    ----------
    cusum, e_detector : Cusum, EDetector or None
        The detectors; None leaves one out.
    tolerance, max_weight : float
        Gap that raises no alarm, and the largest weight.
    reference : Reference
        The reference rows.
    """

    N_TOTALS = 5  # row, labels, and weighted sums of one, confidence and correctness

    def __init__(
        self,
        cusum: Cusum | None,
        e_detector: EDetector | None,
        tolerance: float,
        max_weight: float,
        reference: Reference,
    ) -> None:
        self._cusum, self._e_detector = cusum, e_detector
        self._tolerance, self._max_weight = tolerance, max_weight
        self._reference = reference
        self._totals = np.zeros(self.N_TOTALS)

    @staticmethod
    def new_e_detector(run_length: float) -> EDetector:
        return EDetector(N_RESIDUAL_BETS, run_length, LabelWatch.N_TOTALS)

    @staticmethod
    def new_cusum(allowance: float, thresholds: tuple[float, float]) -> Cusum:
        return Cusum(allowance, thresholds, LabelWatch.N_TOTALS)

    def step(
        self, row: int, confidence: float, right: bool, weight: float, now: Now
    ) -> list[CalibrationAlarm]:
        """Take a labelled row; return the alarms that it raises."""
        residual = confidence - right
        before = self._totals.copy()
        before[0] = row  # labels come late and out of order: the start is the row, not the label
        self._totals += [0, 1, weight, weight * confidence, weight * right]
        raised: list[CalibrationAlarm] = []
        if self._cusum is not None and self._cusum.step(residual, weight, before):
            raised.append(self._alarm("cusum", self._cusum, now))
        if self._e_detector is not None:
            factors = residual_bets(
                residual, weight, tolerance=self._tolerance, max_weight=self._max_weight
            )
            if self._e_detector.step(factors, before):
                raised.append(self._alarm("e_detector", self._e_detector, now))
        return raised

    def _alarm(self, kind: str, detector: Cusum | EDetector, now: Now) -> CalibrationAlarm:
        since = int(detector.mark[0])
        _, n_labels, weight, confidence, right = self._totals - detector.mark
        accuracy = float(right / weight)
        needed = labels_to_recalibrate(accuracy, len(self._reference.names))
        return CalibrationAlarm(
            kind=kind,
            row=now.row,
            n_labels=now.n_labels,
            statistic=detector.statistic,
            threshold=detector.threshold,
            since_row=since,
            reason=alarms.gap_reason(float(confidence / weight), accuracy, int(n_labels), since),
            action=alarms.gap_action(needed, int(n_labels), since),
            labels_needed=needed,
        )

    @property
    def mean_confidence(self) -> float | None:
        return float(self._totals[3] / self._totals[2]) if self._totals[2] else None

    @property
    def accuracy(self) -> float | None:
        return float(self._totals[4] / self._totals[2]) if self._totals[2] else None

    def readings(self) -> dict[str, Reading]:
        found = {"cusum": self._cusum, "e_detector": self._e_detector}
        return {k: Reading(d.statistic, d.threshold) for k, d in found.items() if d is not None}

    def to_dict(self) -> dict[str, Any]:
        return {
            "cusum": None if self._cusum is None else self._cusum.to_dict(),
            "e_detector": None if self._e_detector is None else self._e_detector.to_dict(),
            "tolerance": self._tolerance,
            "max_weight": self._max_weight,
            "totals": self._totals.tolist(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any], reference: Reference) -> LabelWatch:
        cusum, e_detector = state["cusum"], state["e_detector"]
        watch = cls(
            None if cusum is None else Cusum.from_dict(cusum),
            None if e_detector is None else EDetector.from_dict(e_detector),
            state["tolerance"],
            state["max_weight"],
            reference,
        )
        watch._totals = np.array(state["totals"], dtype=np.float64)
        return watch


class RowWatch:
    """Confidences and predicted labels of all rows, labelled or not.

    Parameters
    ----------
    confidences, predicted_labels : ConfidenceDrift, LabelDrift or None
        The detectors; None leaves one out.
    reference : Reference
        The reference rows.
    """

    def __init__(
        self,
        confidences: ConfidenceDrift | None,
        predicted_labels: LabelDrift | None,
        reference: Reference,
    ) -> None:
        self._confidences, self._predicted = confidences, predicted_labels
        self._reference = reference
        self._sum = 0.0
        self._seen = np.zeros(len(reference.names))

    def step(
        self, confidence: float, predicted: int, draws: tuple[float, float], now: Now
    ) -> list[CalibrationAlarm]:
        """Take a row, its confidence and the number of its predicted label."""
        raised: list[CalibrationAlarm] = []
        before_sum, before_seen = self._sum, self._seen.copy()
        self._sum += confidence
        self._seen[predicted] += 1
        if self._confidences is not None and self._confidences.step(
            confidence, draws[0], [now.row, before_sum]
        ):
            raised.append(self._confidence_alarm(self._confidences.detector, now))
        if self._predicted is not None and self._predicted.step(
            predicted, draws[1], now.row, before_seen
        ):
            raised.append(self._label_alarm(self._predicted, now))
        return raised

    def _confidence_alarm(self, detector: EDetector, now: Now) -> CalibrationAlarm:
        since, before = int(detector.mark[0]), detector.mark[1]
        n_rows = now.row + 1 - since
        needed = labels_to_recalibrate(
            self._reference.expected_accuracy, len(self._reference.names)
        )
        return self._alarm(
            "confidences",
            detector,
            now,
            reason=(
                "The confidences are distributed differently since about row "
                f"{since:,}: {(self._sum - before) / n_rows:.1%} on average over {n_rows:,} "
                f"row(s), and {self._reference.confidence:.1%} in the reference."
            ),
            action=alarms.look_action(needed, since),
            needed=needed,
        )

    def _label_alarm(self, drift: LabelDrift, now: Now) -> CalibrationAlarm:
        since, before = int(drift.detector.mark[0]), drift.detector.mark[1]
        n_rows, label = now.row + 1 - since, drift.leader
        needed = labels_to_recalibrate(
            self._reference.expected_accuracy, len(self._reference.names)
        )
        return self._alarm(
            "predicted_labels",
            drift.detector,
            now,
            reason=(
                f"{self._reference.names[label]!r} is predicted for "
                f"{(self._seen[label] - before) / n_rows:.1%} of {n_rows:,} row(s) since about row "
                f"{since:,}, and for {self._reference.shares[label]:.1%} in the reference."
            ),
            action=alarms.shares_action(needed, since),
            needed=needed,
        )

    @staticmethod
    def _alarm(
        kind: str, detector: EDetector, now: Now, *, reason: str, action: str, needed: int
    ) -> CalibrationAlarm:
        return CalibrationAlarm(
            kind=kind,
            row=now.row,
            n_labels=now.n_labels,
            statistic=detector.statistic,
            threshold=detector.threshold,
            since_row=int(detector.mark[0]),
            reason=reason,
            action=action,
            labels_needed=needed,
        )

    @property
    def mean_confidence(self) -> float | None:
        n_rows = self._seen.sum()
        return float(self._sum / n_rows) if n_rows else None

    @property
    def shares(self) -> list[float | None]:
        n_rows = self._seen.sum()
        return [float(count / n_rows) if n_rows else None for count in self._seen]

    def readings(self) -> dict[str, Reading]:
        found = {"confidences": self._confidences, "predicted_labels": self._predicted}
        return {
            kind: Reading(drift.detector.statistic, drift.detector.threshold)
            for kind, drift in found.items()
            if drift is not None
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "confidences": None if self._confidences is None else self._confidences.to_dict(),
            "predicted_labels": None if self._predicted is None else self._predicted.to_dict(),
            "sum": self._sum,
            "seen": self._seen.tolist(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any], reference: Reference) -> RowWatch:
        confidences, predicted = state["confidences"], state["predicted_labels"]
        watch = cls(
            None if confidences is None else ConfidenceDrift.from_dict(confidences),
            None if predicted is None else LabelDrift.from_dict(predicted),
            reference,
        )
        watch._sum = float(state["sum"])
        watch._seen = np.array(state["seen"], dtype=np.float64)
        return watch
