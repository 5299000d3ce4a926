"""The state of a monitor, as a dict for programs and as tables for people."""

from __future__ import annotations

from typing import Any

from skllm_calib.operations.monitor.alarms import CalibrationAlarm
from skllm_calib.utils.layout import aligned, wrapped

__all__ = ["MonitorSummary"]


class MonitorSummary(dict[str, Any]):
    """What `CalibrationMonitor.summary` returns: plain JSON values, which ``str`` lays out."""

    def __str__(self) -> str:
        alarms = [wrapped(f"ALARM {CalibrationAlarm(**alarm)}") for alarm in self["alarms"]]
        return "\n\n".join(
            [
                f"Status: {self['status']}",
                self._counts(),
                "Since the last reset, beside the reference rows:",
                self._shares(),
                self._detectors(),
                *alarms,
            ]
        )

    def _counts(self) -> str:
        named = {"rows": "rows", "labels": "labels", "pending_rows": "rows that wait for a label"}
        n_dropped = self["dropped_rows"]
        dropped = f"{n_dropped:,} more were dropped" if n_dropped else ""
        rows = [[name, f"{self[key]:,}"] for key, name in named.items()]
        return aligned(rows, ["", "", dropped])

    def _shares(self) -> str:
        reference = self["reference"]
        rows = [
            ("mean confidence", self["mean_confidence"], reference["confidence"]),
            ("mean confidence of labelled rows", self["labelled_confidence"], None),
            ("accuracy of labelled rows", self["labelled_accuracy"], reference["accuracy"]),
        ]
        rows += [
            (f"predicted as {one['label']}", one["share"], one["reference_share"])
            for one in self["predicted_labels"]
        ]
        shown = [[name, _percent(now), _percent(then)] for name, now, then in rows]
        return aligned([["", "now", "reference"], *shown])

    def _detectors(self) -> str:
        rows, remarks = [["detector", "statistic", "alarm from"]], [""]
        for name, one in self["detectors"].items():
            if one["statistic"] is not None:
                rows.append([name, _short(one["statistic"]), _short(one["threshold"])])
                remarks.append("ALARM" if one["alarmed"] else "")
        return aligned(rows, remarks)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _short(value: float) -> str:
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2g}"
