"""Is it still the same model? Its fingerprint, and its answers to fixed questions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.operations.monitor import alarms
from skllm_calib.operations.monitor._watches import Now, Reading, Reference
from skllm_calib.operations.monitor.alarms import CalibrationAlarm, labels_to_recalibrate

__all__ = ["ModelWatch", "check_fingerprint"]

Floats = NDArray[np.float64]


def check_fingerprint(fingerprint: object) -> str | None:
    """Return the fingerprint, a string or None."""
    if fingerprint is not None and not isinstance(fingerprint, str):
        raise InvalidInput(
            f"fingerprint must be a string, got {fingerprint!r}", "fingerprint", value=fingerprint
        )
    return fingerprint


class ModelWatch:
    """Compares fingerprints, and answers to the probes, with those of the reference.

    Parameters
    ----------
    fingerprint : str or None
        That of the reference; the first one seen when None.
    probes : ndarray of shape (n_probes, n_classes) or None
        Reference answers.
    tolerance : float
        Mean total variation distance of answers that raises no alarm.
    reference : Reference
        The reference rows.
    """

    def __init__(
        self,
        fingerprint: str | None,
        probes: Floats | None,
        tolerance: float,
        reference: Reference,
    ) -> None:
        self._fingerprint = self.latest_fingerprint = fingerprint
        self._probes = self._latest_probes = probes
        self._tolerance = tolerance
        self._reference = reference
        self._distance: float | None = None
        self._probed_at = 0  # the next row when the probes were last answered as expected
        self._stopped: list[str] = []

    def note(self, fingerprint: str, now: Now) -> list[CalibrationAlarm]:
        """Take the fingerprint of the rows after `now`."""
        self.latest_fingerprint = fingerprint
        if self._fingerprint is None:
            self._fingerprint = fingerprint
        if fingerprint == self._fingerprint:
            return []
        reason = f"The model as served is {fingerprint!r}; it was {self._fingerprint!r}."
        return self._alarm("fingerprint", Reading(1.0, 0.0), now.row + 1, reason, now)

    def compare(self, answers: Floats, now: Now) -> list[CalibrationAlarm]:
        """Take new answers to the probes."""
        if self._probes is None:
            raise InvalidInput("no probes to compare with: fit the monitor with probes=", "probes")
        if len(answers) != len(self._probes):
            raise InvalidInput(
                f"proba must hold {len(self._probes)} probes, got {len(answers)}",
                "proba",
                value=len(answers),
            )
        self._latest_probes = answers
        apart = np.abs(answers - self._probes).sum(axis=1) / 2
        self._distance = float(apart.mean())
        if self._distance <= self._tolerance:
            self._probed_at = now.row + 1
            return []
        others = int((answers.argmax(axis=1) != self._probes.argmax(axis=1)).sum())
        reason = (
            f"The probabilities of {len(answers):,} probe(s) have moved by {self._distance:.3f} on "
            f"average (largest {apart.max():.3f}), and {others:,} of the predicted labels have "
            "changed."
        )
        reading = Reading(self._distance, self._tolerance)
        return self._alarm("probes", reading, self._probed_at, reason, now)

    def _alarm(
        self, kind: str, reading: Reading, since: int, reason: str, now: Now
    ) -> list[CalibrationAlarm]:
        if kind in self._stopped:
            return []  # raised already
        self._stopped.append(kind)
        needed = labels_to_recalibrate(
            self._reference.expected_accuracy, len(self._reference.names)
        )
        alarm = CalibrationAlarm(
            kind=kind,
            row=now.row,
            n_labels=now.n_labels,
            statistic=float(reading.statistic or 0.0),
            threshold=reading.threshold,
            since_row=since,
            reason=reason,
            action=alarms.model_action(needed, since),
            labels_needed=needed,
        )
        return [alarm]

    def accept(self, now: Now) -> None:
        """Compare with the latest fingerprint and answers from now on."""
        self._fingerprint, self._probes = self.latest_fingerprint, self._latest_probes
        self._distance, self._probed_at, self._stopped = None, now.row + 1, []

    def readings(self) -> dict[str, Reading]:
        other = self.latest_fingerprint != self._fingerprint
        return {
            "fingerprint": Reading(float(other), 0.0),
            "probes": Reading(self._distance, self._tolerance),
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "fingerprints": [self._fingerprint, self.latest_fingerprint],
            "probes": [
                None if answers is None else answers.tolist()
                for answers in (self._probes, self._latest_probes)
            ],
            "tolerance": self._tolerance,
            "distance": self._distance,
            "probed_at": self._probed_at,
            "stopped": list(self._stopped),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any], reference: Reference) -> ModelWatch:
        watch = cls(None, None, state["tolerance"], reference)
        watch._fingerprint, watch.latest_fingerprint = state["fingerprints"]
        watch._probes, watch._latest_probes = (
            None if answers is None else np.array(answers, dtype=np.float64)
            for answers in state["probes"]
        )
        watch._distance, watch._probed_at = state["distance"], state["probed_at"]
        watch._stopped = list(state["stopped"])
        return watch
