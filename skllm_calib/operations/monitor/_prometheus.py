"""The state of a monitor for a dashboard: metrics in the text format of Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from skllm_calib.exceptions import InvalidInput

__all__ = ["prometheus_text"]

_PREFIX = "skllm_calib_monitor_"
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

# Name, type and help of each metric. Ratios lie between 0 and 1, as is the custom there.
_METRICS = {
    "rows_total": ("counter", "Rows seen since the monitor was fitted."),
    "labels_total": ("counter", "Labels seen since the monitor was fitted."),
    "pending_rows": ("gauge", "Rows that wait for a label."),
    "dropped_rows_total": ("counter", "Waiting rows dropped because there were too many."),
    "mean_confidence_ratio": ("gauge", "Mean confidence of all rows since the last reset."),
    "labelled_confidence_ratio": (
        "gauge",
        "Weighted mean confidence of the labelled rows since the last reset.",
    ),
    "labelled_accuracy_ratio": (
        "gauge",
        "Weighted share of right labels among the labelled rows since the last reset.",
    ),
    "predicted_label_ratio": (
        "gauge",
        "Share of the rows for which this label is predicted, since the last reset.",
    ),
    "alarm": ("gauge", "1 while there is an alarm of this kind, 0 otherwise."),
    "alarms_total": ("counter", "Alarms of this kind since the monitor was fitted."),
    "statistic": ("gauge", "Statistic of a detector, which raises an alarm at its threshold."),
    "threshold": ("gauge", "Threshold of the statistic of a detector."),
}


def prometheus_text(summary: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Lay a summary out as text exposition format 0.0.4."""
    for name in labels:
        if not _LABEL_NAME.fullmatch(name) or name.startswith("__"):
            raise InvalidInput(
                f"labels holds the name {name!r}: Prometheus allows letters, digits and "
                "underscores, no digit first, and reserves names with two leading underscores",
                "labels",
                value=name,
            )
        if name in ("kind", "label"):
            raise InvalidInput(
                f"labels must not hold {name!r}, which the monitor itself uses",
                "labels",
                value=name,
            )
    lines: list[str] = []
    for name, (kind, text) in _METRICS.items():
        samples = list(_samples(name, summary))
        if not samples:
            continue  # nothing is known yet: no sample is better than a made-up zero
        lines += [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} {kind}"]
        for own, value in samples:
            shown = ",".join(f'{k}="{_escape(v)}"' for k, v in {**labels, **own}.items())
            lines.append(_PREFIX + name + (f"{{{shown}}}" if shown else "") + f" {float(value)!r}")
    return "\n".join(lines) + "\n"


def _samples(name: str, summary: Mapping[str, Any]) -> Iterable[tuple[dict[str, str], float]]:
    if name == "predicted_label_ratio":
        shares = summary["predicted_labels"]
        return [({"label": str(s["label"])}, s["share"]) for s in shares if s["share"] is not None]
    if name in ("statistic", "threshold", "alarm", "alarms_total"):
        field = {"alarm": "alarmed", "alarms_total": "n_alarms"}.get(name, name)
        watches = summary["detectors"].items()
        return [
            ({"kind": kind}, watch[field]) for kind, watch in watches if watch[field] is not None
        ]
    value = summary[name.removesuffix("_total").removesuffix("_ratio")]
    return [] if value is None else [({}, value)]


def _escape(value: str) -> str:
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
