"""A watch as JSON, and back: every float to its last bit, and nothing that runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from skllm_calib.operations.monitor._incoming import Waiting
from skllm_calib.operations.monitor._model import ModelWatch
from skllm_calib.operations.monitor._watches import LabelWatch, Reference, RowWatch
from skllm_calib.operations.monitor.alarms import CalibrationAlarm

if TYPE_CHECKING:
    from skllm_calib.operations.monitor.monitor import CalibrationMonitor

__all__ = ["from_json", "to_json"]

Monitor = TypeVar("Monitor", bound="CalibrationMonitor")

_FORMAT = "skllm_calib.CalibrationMonitor"
_VERSION = 1


def to_json(monitor: CalibrationMonitor) -> str:
    """Return parameters and state as JSON. Python writes floats so that they read back exactly."""
    state = {
        "classes": monitor.classes_.tolist(),
        "column": monitor._column,
        "max_weight": monitor.max_weight_,
        "only_weight": monitor._only_weight,
        "reference": monitor._reference._asdict(),
        "fresh": monitor._fresh,
        "labels": monitor._labels.to_dict(),
        "rows": monitor._rows.to_dict(),
        "model": monitor._model.to_dict(),
        "pending": [[name, *waiting] for name, waiting in monitor._pending.items()],
        "n_dropped": monitor._n_dropped,
        "n_alarms": monitor._n_alarms,
        "n_rows": monitor.n_rows_,
        "n_labels": monitor.n_labels_,
        "alarms": [asdict(alarm) for alarm in monitor.alarms_],
    }
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "parameters": {name: _plain(value) for name, value in monitor.get_params().items()},
        "state": state,
    }
    return json.dumps(content, allow_nan=False, ensure_ascii=False) + "\n"


def from_json(cls: type[Monitor], text: str) -> Monitor:
    """Return the monitor whose JSON this is."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"This is not the JSON of a CalibrationMonitor: {error}.") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"This is not the state of a CalibrationMonitor: no format={_FORMAT!r}.")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"The state has version {content.get('version')!r}, and this release of skllm-calib "
            f"reads version {_VERSION}: update the package, or fit a new monitor."
        )
    monitor = cls(**content["parameters"])
    state = content["state"]
    monitor.classes_ = np.array(state["classes"])
    monitor._column = state["column"]
    monitor.max_weight_ = state["max_weight"]
    monitor._only_weight = state["only_weight"]
    monitor._reference = Reference(**state["reference"])
    monitor._fresh = state["fresh"]
    monitor._labels = LabelWatch.from_dict(state["labels"], monitor._reference)
    monitor._rows = RowWatch.from_dict(state["rows"], monitor._reference)
    monitor._model = ModelWatch.from_dict(state["model"], monitor._reference)
    monitor._pending = {name: Waiting(*rest) for name, *rest in state["pending"]}
    monitor._n_dropped = state["n_dropped"]
    monitor._n_alarms = state["n_alarms"]
    monitor.n_rows_, monitor.n_labels_ = state["n_rows"], state["n_labels"]
    monitor.alarms_ = [CalibrationAlarm(**alarm) for alarm in state["alarms"]]
    return monitor


def _plain(value: Any) -> Any:
    """Return a parameter without the types of NumPy and without tuples."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
