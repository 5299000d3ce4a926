"""What a monitor says, as text, as JSON and for Prometheus."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from skllm_calib.cli.console import aligned, remark, say, wrapped
from skllm_calib.operations.monitor import CalibrationAlarm, CalibrationMonitor
from skllm_calib.utils.files import write_text

__all__ = ["IN_ALARM", "code_of", "say_raised", "show_status"]

IN_ALARM = 3  # exit code; 1 is an error, 2 are arguments that make no sense


def code_of(monitor: CalibrationMonitor) -> int:
    """Return the exit code that tells how a monitor stands."""
    return IN_ALARM if monitor.status == "alarm" else 0


def say_raised(monitor: CalibrationMonitor, raised: Sequence[CalibrationAlarm]) -> None:
    """Print new alarms, and how the monitor stands."""
    for alarm in raised:
        say(wrapped(f"ALARM {alarm}"))
    status = monitor.status
    if earlier := len(monitor.alarms_) - len(raised):
        status += (
            f", {len(raised)} new and {earlier} earlier ('monitor status' shows them, 'monitor "
            "reset' takes note of them)"
        )
    seen = f"{monitor.n_rows_:,} rows and {monitor.n_labels_:,} labels so far"
    say(wrapped(f"Status: {status}. {seen}."))


def show_status(monitor: CalibrationMonitor, args: argparse.Namespace) -> None:
    """Print the state, or write it where ``--json`` and ``--prometheus`` say."""
    summary = monitor.summary()
    texts = {}
    if args.json is not None:
        texts[args.json] = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
    if args.prometheus is not None:
        if args.prometheus == args.json:
            raise ValueError(f"--json and --prometheus cannot both go to {args.json!r}")
        texts[args.prometheus] = monitor.to_prometheus(dict(args.prometheus_label))
    for path, text in texts.items():
        if path != "-":
            write_text(path, text)
            remark(args, f"Wrote {path}")
    if "-" in texts:  # for a program, so nothing else
        say(texts["-"].rstrip("\n"))
        return
    _show(monitor, summary)


def _show(monitor: CalibrationMonitor, summary: dict[str, Any]) -> None:
    reference = summary["reference"]
    say(f"Status: {monitor.status}\n")
    dropped = f"{summary['dropped_rows']:,} more were dropped" * bool(summary["dropped_rows"])
    say(
        aligned(
            [
                ["rows", f"{summary['rows']:,}"],
                ["labels", f"{summary['labels']:,}"],
                ["rows that wait for a label", f"{summary['pending_rows']:,}"],
            ],
            ["", "", dropped],
        )
    )
    say("\nSince the last reset, beside the reference rows:\n")
    table = [
        ["", "now", "reference"],
        ["mean confidence", summary["mean_confidence"], reference["confidence"]],
        ["mean confidence of labelled rows", summary["labelled_confidence"], None],
        ["accuracy of labelled rows", summary["labelled_accuracy"], reference["accuracy"]],
    ]
    table += [
        [f"predicted as {one['label']}", one["share"], one["reference_share"]]
        for one in summary["predicted_labels"]
    ]
    say(aligned([[x if isinstance(x, str) else _percent(x) for x in row] for row in table]))
    table = [["detector", "statistic", "alarm from"]]
    remarks = [""]
    for name, watch in summary["detectors"].items():
        if watch["statistic"] is not None:
            table.append([name, _short(watch["statistic"]), _short(watch["threshold"])])
            remarks.append("ALARM" if watch["alarmed"] else "")
    say("\n" + aligned(table, remarks))
    for alarm in monitor.alarms_:
        say("\n" + wrapped(f"ALARM {alarm}"))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _short(value: float) -> str:
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2g}"
