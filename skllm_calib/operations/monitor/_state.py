"""The state of a monitor: how rows and labels change it, and how it is kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_classes
from skllm_calib.operations.monitor._drift import uniform_draws
from skllm_calib.operations.monitor._incoming import Floats, RowId, Waiting, watched
from skllm_calib.operations.monitor._model import ModelWatch
from skllm_calib.operations.monitor._watches import LabelWatch, Now, Reading, Reference, RowWatch
from skllm_calib.operations.monitor.alarms import CalibrationAlarm
from skllm_calib.operations.monitor.summary import MonitorSummary

__all__ = ["MonitorState", "read_json", "write_json"]

_FORMAT = "skllm_calib.CalibrationMonitor"
_VERSION = 1


@dataclass
class MonitorState:
    """All that a fitted monitor remembers.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The classes, sorted.
    column : int or None
        The column that is watched; None for that of the most probable class.
    max_weight : float
        Largest weight allowed.
    only_weight : float or None
        The weight of all reference rows, if they have the same.
    reference : Reference
        What the reference rows were like.
    fresh : dict
        The watches of labels and rows as they begin, in JSON values.
    model : ModelWatch
        Fingerprints and answers to probes.
    pending : dict of id to Waiting
        Rows whose label is to come, the oldest first.
    n_alarms : dict of str to int
        Alarms of each kind since `fit`.
    """

    classes: NDArray[Any]
    column: int | None
    max_weight: float
    only_weight: float | None
    reference: Reference
    fresh: dict[str, Any]
    model: ModelWatch
    n_alarms: dict[str, int]
    labels: LabelWatch = field(init=False)
    rows: RowWatch = field(init=False)
    alarms: list[CalibrationAlarm] = field(init=False)
    pending: dict[RowId, Waiting] = field(default_factory=dict)
    n_dropped: int = 0
    n_unscored: int = 0
    n_rows: int = 0
    n_labels: int = 0

    def __post_init__(self) -> None:
        self.restart()

    @property
    def now(self) -> Now:
        return Now(self.n_rows - 1, self.n_labels)

    def restart(self) -> None:
        """Restart every detector, with the same reference."""
        self.labels = LabelWatch.from_dict(self.fresh["labels"], self.reference)
        self.rows = RowWatch.from_dict(self.fresh["rows"], self.reference)
        self.alarms = []

    def take_rows(
        self,
        rows: Floats,
        codes: NDArray[np.int64],
        weight: Floats,
        names: Sequence[RowId] | None,
        seed: int,
    ) -> list[CalibrationAlarm]:
        """Take rows in their order, each before its label; -1 is the code of one to come."""
        confidence, code = (values.tolist() for values in watched(rows, self.column))
        unscored: list[bool] = np.asarray(np.isnan(rows).any(axis=1)).tolist()
        predicted = rows.argmax(axis=1).tolist()
        draws = [uniform_draws(seed, stream, self.n_rows, len(rows)).tolist() for stream in (0, 1)]
        raised: list[CalibrationAlarm] = []
        for k, label in enumerate(codes.tolist()):
            waiting = Waiting(self.n_rows, confidence[k], code[k], float(weight[k]))
            self.n_rows += 1
            if unscored[k]:  # a row that failed is counted, and its label tells nothing
                self.n_unscored += 1
                if label < 0 and names is not None:
                    self.pending[names[k]] = Waiting(waiting.row, 0.0, -1, 0.0)
                continue
            chances = (draws[0][k], draws[1][k])
            raised += self.note(self.rows.step(confidence[k], predicted[k], chances, self.now))
            if label >= 0:
                raised += self._take_label(waiting, label)
            elif names is not None:
                self.pending[names[k]] = waiting
        return raised

    def take_labels(
        self, names: Sequence[RowId], codes: NDArray[np.int64], weight: Floats | None
    ) -> list[CalibrationAlarm]:
        """Take labels of rows that wait for them; those of other rows are ignored."""
        raised: list[CalibrationAlarm] = []
        for k, name in enumerate(names):
            waiting = self.pending.pop(name, None)
            if waiting is not None:
                if weight is not None:
                    waiting = waiting._replace(weight=float(weight[k]))
                raised += self._take_label(waiting, int(codes[k]))
        return raised

    def _take_label(self, waiting: Waiting, truth: int) -> list[CalibrationAlarm]:
        if waiting.weight == 0 or waiting.code < 0:
            return []
        self.n_labels += 1
        row, confidence, code, weight = waiting
        return self.note(self.labels.step(row, confidence, code == truth, weight, self.now))

    def note(self, raised: list[CalibrationAlarm]) -> list[CalibrationAlarm]:
        """Keep alarms and count them."""
        for alarm in raised:
            self.alarms.append(alarm)
            self.n_alarms[alarm.kind] += 1
        return raised

    def drop_oldest(self, max_pending: int) -> None:
        """Drop the oldest rows that wait for a label, down to `max_pending`."""
        while len(self.pending) > max_pending:
            del self.pending[next(iter(self.pending))]
            self.n_dropped += 1

    def summary(self) -> MonitorSummary:
        """Return the state for a dashboard, in JSON values."""
        alarmed = {alarm.kind for alarm in self.alarms}
        labels = zip(self.reference.names, self.rows.shares, self.reference.shares, strict=True)
        content = {
            "status": "alarm" if self.alarms else "calm",
            "rows": self.n_rows,
            "labels": self.n_labels,
            "pending_rows": len(self.pending),
            "dropped_rows": self.n_dropped,
            "failed_rows": self.n_unscored,
            "mean_confidence": self.rows.mean_confidence,
            "labelled_confidence": self.labels.mean_confidence,
            "labelled_accuracy": self.labels.accuracy,
            "predicted_labels": [
                {"label": label, "share": share, "reference_share": expected}
                for label, share, expected in labels
            ],
            "reference": {
                "confidence": self.reference.confidence,
                "accuracy": self.reference.accuracy,
            },
            "fingerprint": self.model.latest_fingerprint,
            "detectors": {
                kind: {
                    "statistic": reading.statistic,
                    "threshold": reading.threshold,
                    "alarmed": kind in alarmed,
                    "n_alarms": self.n_alarms[kind],
                }
                for kind, reading in self._readings().items()
            },
            "alarms": [alarm.to_dict() for alarm in self.alarms],
        }
        return MonitorSummary(content)

    def _readings(self) -> dict[str, Reading]:
        watches = (self.labels, self.rows, self.model)
        return {kind: reading for watch in watches for kind, reading in watch.readings().items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the state in JSON values."""
        return {
            "classes": self.classes.tolist(),
            "column": self.column,
            "max_weight": self.max_weight,
            "only_weight": self.only_weight,
            "reference": self.reference._asdict(),
            "fresh": self.fresh,
            "labels": self.labels.to_dict(),
            "rows": self.rows.to_dict(),
            "model": self.model.to_dict(),
            "pending": [[name, *waiting] for name, waiting in self.pending.items()],
            "n_dropped": self.n_dropped,
            "n_unscored": self.n_unscored,
            "n_alarms": self.n_alarms,
            "n_rows": self.n_rows,
            "n_labels": self.n_labels,
            "alarms": [asdict(alarm) for alarm in self.alarms],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> MonitorState:
        """Return the state that `to_dict` wrote."""
        reference = Reference(**content["reference"])
        plain = ("column", "max_weight", "only_weight", "fresh", "n_alarms", "n_dropped")
        state = cls(
            classes=np.array(content["classes"]),
            reference=reference,
            model=ModelWatch.from_dict(content["model"], reference),
            pending={name: Waiting(*rest) for name, *rest in content["pending"]},
            n_unscored=content.get("n_unscored", 0),  # files of earlier releases have none
            n_rows=content["n_rows"],
            n_labels=content["n_labels"],
            **{name: content[name] for name in plain},
        )
        state.labels = LabelWatch.from_dict(content["labels"], reference)
        state.rows = RowWatch.from_dict(content["rows"], reference)
        state.alarms = [CalibrationAlarm(**alarm) for alarm in content["alarms"]]
        return state


def write_json(parameters: Mapping[str, Any], state: MonitorState) -> str:
    """Return parameters and state as JSON. Python writes floats so that they read back exactly."""
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "parameters": {name: _plain(value) for name, value in parameters.items()},
        "state": state.to_dict(),
    }
    return json.dumps(content, allow_nan=False, ensure_ascii=False) + "\n"


def read_json(text: str) -> tuple[dict[str, Any], MonitorState]:
    """Return the parameters and the state that `write_json` wrote."""
    try:
        content = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise InvalidInput(f"not the JSON of a CalibrationMonitor: {error}", "text") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InvalidInput(
            f"not the state of a CalibrationMonitor: 'format' is not {_FORMAT!r}", "text"
        )
    if content.get("version") != _VERSION:
        raise InvalidInput(
            f"the state has version {content.get('version')!r}, and this release of skllm-calib "
            f"reads version {_VERSION}: update the package, or fit a new monitor",
            "text",
            value=content.get("version"),
        )
    try:
        state = MonitorState.from_dict(content["state"])
        _check(state, content["state"])
        return dict(content["parameters"]), state
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"the state of a CalibrationMonitor, but damaged ({error!r})", "text"
        ) from None


def _check(state: MonitorState, content: Mapping[str, Any]) -> None:
    """Refuse values that would be found wrong only later, or never."""
    for name in ("n_rows", "n_labels", "n_dropped", "n_unscored"):
        value = getattr(state, name)
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} is {value!r}")
    check_classes(state.classes, at_least=2)
    for waiting in state.pending.values():
        if not (0 <= waiting.row < state.n_rows and 0 <= waiting.confidence <= 1):
            raise ValueError(f"a row that waits for its label is {tuple(waiting)}")
    state.summary()
    if json.loads(json.dumps(state.to_dict())) != {"n_unscored": 0, **content}:
        raise ValueError("it does not read back as it was written")


def _plain(value: Any) -> Any:
    """Return a parameter without the types of NumPy and without tuples."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
