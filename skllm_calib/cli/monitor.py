"""Watch whether a calibration still holds: new rows and labels in, alarms out."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from skllm_calib.cli.classifier import given_parameters
from skllm_calib.cli.console import remark, say
from skllm_calib.cli.rows import by_label, check_known, check_same, leave_out, table_of, weights_of
from skllm_calib.operations.monitor import CalibrationAlarm, CalibrationMonitor
from skllm_calib.operations.predictions import read_ids, read_probabilities, read_true_labels
from skllm_calib.utils.files import write_text
from skllm_calib.utils.layout import wrapped

_IN_ALARM = 3  # exit code; 1 is an error, 2 are arguments that make no sense


def start(args: SimpleNamespace) -> int:
    """Learn from held-out rows what calm looks like, and begin to watch."""
    if Path(args.state).exists() and not args.force:
        raise ValueError(
            f"{args.state!r} exists already: name another file, or pass --force to begin anew and "
            "lose what it has seen"
        )
    monitor = CalibrationMonitor(**given_parameters(CalibrationMonitor(), args))
    rows = _rows(args, args.max_weight or np.inf, labelled=True)
    monitor.fit(rows.y, rows.proba, rows.weight, classes=rows.labels, fingerprint=args.fingerprint)
    Path(args.state).parent.mkdir(parents=True, exist_ok=True)
    monitor.save(args.state)
    reference = monitor.summary()["reference"]
    accuracy = reference["accuracy"]
    right = "" if accuracy is None else f", of which {accuracy:.1%} are right"
    say(
        f"Watching from {len(rows.proba):,} rows with a mean confidence of "
        f"{reference['confidence']:.1%}{right}. Kept in {args.state}"
    )
    return 0


def update(args: SimpleNamespace) -> int:
    """Take new rows, in the order in which they were classified."""
    kept = _Kept(args.state)
    rows = _rows(args, kept.monitor.max_weight_)
    known = by_label(kept.monitor.classes_)
    check_same(args.file, rows.labels, known, f"the monitor at {args.state!r} is about")
    proba = rows.proba[:, [rows.labels.index(str(name)) for name in known]]
    y: Any = None if rows.y is None else [None if y is None else known[y] for y in rows.y]
    with kept.updating() as monitor:
        raised = monitor.update(y, proba, rows.weight, ids=rows.ids, fingerprint=args.fingerprint)
    return kept.report(raised)


def labels(args: SimpleNamespace) -> int:
    """Take labels of rows that came with 'update --id', in the order in which they arrived."""
    kept = _Kept(args.state)
    table = table_of(args)
    truth = read_true_labels(table, args.label)
    used = leave_out(table, args, range(len(truth)), truth, "label", say_so=False)
    known = by_label(kept.monitor.classes_)
    of = ", ".join(sorted(map(str, known)))
    check_known(table, used, truth, args.label, known, of)
    weight = weights_of(table, args.weight, used, zero=True, largest=kept.monitor.max_weight_)
    ids = read_ids(table, args.id, used)
    args.name_of_row = lambda i: table.name(used[i])
    with kept.updating() as monitor:
        before = monitor.n_labels_
        raised = monitor.add_labels(
            ids,
            [known[truth[i]] for i in used],
            weight,
            unknown="ignore" if args.ignore_unknown else "raise",
        )
    taken = monitor.n_labels_ - before
    if taken < len(used):
        remark(args, f"Skipped {len(used) - taken:,} of {len(used):,} labels.")
    return kept.report(raised)


def status(args: SimpleNamespace) -> int:
    """Print the state, or write it where ``--json`` and ``--prometheus`` say."""
    monitor = _Kept(args.state).monitor
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
    else:
        say(str(summary))
    return _code_of(monitor)


def reset(args: SimpleNamespace) -> int:
    """Acknowledge the alarms, and keep monitoring with the same reference."""
    kept = _Kept(args.state)
    with kept.updating() as monitor:
        n = len(monitor.alarms_)
        monitor.reset()
    say(f"Acknowledged {n} alarm(s). Status: {kept.monitor.status}")
    return 0


# -- rows ------------------------------------------------------------------------------------------


def _rows(args: SimpleNamespace, largest: float, *, labelled: bool = False) -> SimpleNamespace:
    """Read rows that have probabilities; with `labelled`, only those that have a label, too."""
    table = table_of(args)
    found = read_probabilities(table)
    used, labels = found.answered(), found.labels
    if not used:
        raise ValueError(f"no row of {args.file!r} has probabilities")
    n_failed, y = len(table.rows) - len(used), None
    if args.label is not None:
        truth = read_true_labels(table, args.label)
        if labelled:
            used = leave_out(table, args, used, truth, "label")
        check_known(table, used, truth, args.label, labels, ", ".join(labels))
        y = [truth[i] for i in used]
    if n_failed:
        remark(args, f"Left out {n_failed:,} rows that failed.")
    args.name_of_row = lambda i: table.name(used[i])
    ids = None if getattr(args, "id", None) is None else read_ids(table, args.id, used)
    weight = weights_of(table, args.weight, used, zero=True, largest=largest)
    return SimpleNamespace(labels=labels, proba=found.matrix[used], ids=ids, y=y, weight=weight)


# -- state -----------------------------------------------------------------------------------------


class _Kept:
    """The monitor in a file, which is replaced as a whole or not at all."""

    def __init__(self, path: str) -> None:
        self._path = path
        if not Path(path).is_file():
            raise ValueError(f"there is no monitor at {path!r}: 'monitor start' makes one")
        self.monitor = CalibrationMonitor.load(path)

    @contextlib.contextmanager
    def updating(self) -> Iterator[CalibrationMonitor]:
        """Load the monitor again, as another command may have changed it, and save it at the end.

        Files are read before, so that nobody waits for a pipe of another one.
        """
        with CalibrationMonitor.updating(self._path) as self.monitor:
            yield self.monitor

    def report(self, raised: Sequence[CalibrationAlarm]) -> int:
        """Print new alarms and how the monitor stands, and return the exit code."""
        for alarm in raised:
            say(wrapped(f"ALARM {alarm}"))
        status = self.monitor.status
        if earlier := len(self.monitor.alarms_) - len(raised):
            status += (
                f", {len(raised)} new and {earlier} earlier ('monitor status' shows them, 'monitor "
                "reset' acknowledges them)"
            )
        seen = f"{self.monitor.n_rows_:,} rows and {self.monitor.n_labels_:,} labels so far"
        say(wrapped(f"Status: {status}. {seen}."))
        return _code_of(self.monitor)


def _code_of(monitor: CalibrationMonitor) -> int:
    return _IN_ALARM if monitor.status == "alarm" else 0
