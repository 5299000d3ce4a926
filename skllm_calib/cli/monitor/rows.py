"""Rows of a file as a monitor takes them, and its errors in the terms of that file."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.cli.columns import read_ids, read_numbers, read_true_labels
from skllm_calib.cli.console import remark
from skllm_calib.cli.probabilities import read_probabilities
from skllm_calib.cli.tables import Table, read_table
from skllm_calib.operations.monitor import CalibrationMonitor

__all__ = ["MonitorRows", "classes_of", "in_words_of_the_file", "late_labels"]

# What the library says of its parameters -> what they are called here.
_WORDS = {
    "sample_weight": "the weight (--weight)",
    "Fit it with max_weight=": "Start it with --max-weight",
    "Fit with the weights": "Start it with the weights",
    "as in fit": "as at its start",
    "out of detectors": "out of --detectors",
    "drift must": "--drift must",
    "tolerance=": "--tolerance ",
    "ids holds": "the column of --id holds",
    "never given to update": "never given to 'monitor update --id' (or the row had failed)",
    "(max_pending)": "(--max-pending)",
    "Pass unknown='ignore'": "Pass --ignore-unknown",
}


@dataclass(frozen=True)
class MonitorRows:
    """Rows that have probabilities, and what else is known of them.

    Attributes
    ----------
    numbers : list of int
        Their numbers in the file, from 1, the header not counted.
    labels : list of str
        The labels that the columns of ``proba`` are about, sorted.
    proba : ndarray of shape (n_rows, n_labels)
        The probabilities.
    ids : list of str or None
        Ids, as texts.
    y : list or None
        True labels as texts; None where there is none.
    weight : ndarray of shape (n_rows,) or None
        Weights.
    n_failed : int
        How many rows were left out because they have no probabilities.
    """

    numbers: list[int]
    labels: list[str]
    proba: NDArray[np.float64]
    ids: list[str] | None
    y: list[Any] | None
    weight: NDArray[np.float64] | None
    n_failed: int

    @classmethod
    def of(cls, args: argparse.Namespace, *, labelled: bool = False) -> MonitorRows:
        """Read a file; with `labelled`, rows without a label are left out if --label is given."""
        table = read_table(args.file)
        probabilities = read_probabilities(table)
        used = probabilities.answered()
        if not used:
            raise ValueError(f"no row of {args.file!r} has probabilities")
        n_failed = len(table.rows) - len(used)
        truth = None if args.label is None else read_true_labels(table, args.label)
        if labelled and truth is not None:
            n_before, used = len(used), [i for i in used if truth[i] is not None]
            if not used:
                raise ValueError(f"no row of {args.file!r} has a label in column {args.label!r}")
            if left_out := n_before - len(used):
                remark(args, f"Left out {left_out} rows: they have no label.")
        if truth is not None:
            _check_labels(used, truth, probabilities.labels, args.label)
        id_column = getattr(args, "id", None)
        return cls(
            numbers=[i + 1 for i in used],
            labels=probabilities.labels,
            proba=probabilities.matrix[used],
            ids=None if id_column is None else read_ids(table, id_column, used),
            y=None if truth is None else [truth[i] for i in used],
            weight=_weights(table, args.weight, used),
            n_failed=n_failed,
        )

    def for_monitor(
        self, monitor: CalibrationMonitor, path: str
    ) -> tuple[NDArray[np.float64], list[Any] | None]:
        """Return probabilities and labels as the classes of a monitor, which may be integers."""
        known = classes_of(monitor)
        if sorted(known) != self.labels:
            raise ValueError(
                f"{path!r} has probabilities of {', '.join(self.labels)}, but the monitor watches "
                f"{', '.join(sorted(known))}: start another one for them"
            )
        columns = [self.labels.index(name) for name in known]
        y = None if self.y is None else [None if y is None else known[y] for y in self.y]
        return self.proba[:, columns], y


def classes_of(monitor: CalibrationMonitor) -> dict[str, Any]:
    """Return the classes of a monitor by their text, which is all that a file may know."""
    return {str(label): label for label in monitor.classes_.tolist()}


def late_labels(
    args: argparse.Namespace, monitor: CalibrationMonitor
) -> tuple[list[int], list[str], list[Any], NDArray[np.float64] | None]:
    """Read row numbers, ids, labels and weights of the rows of a file that have a label."""
    table = read_table(args.file)
    truth = read_true_labels(table, args.label)
    used = [i for i, label in enumerate(truth) if label is not None]
    if not used:
        raise ValueError(f"no row of {args.file!r} has a label in column {args.label!r}")
    known = classes_of(monitor)
    _check_labels(used, truth, sorted(known), args.label)
    ids = read_ids(table, args.id, used)
    y = [known[str(truth[i])] for i in used]
    return [i + 1 for i in used], ids, y, _weights(table, args.weight, used)


@contextlib.contextmanager
def in_words_of_the_file(numbers: Sequence[int]) -> Iterator[None]:
    """Put the row numbers of the file and the options into what the library complains about."""
    try:
        yield
    except ValueError as e:
        text = str(e)
        for theirs, ours in _WORDS.items():
            text = text.replace(theirs, ours)
        row = getattr(e, "row", None)
        if row is not None:
            text = text.replace(f"row {row}", f"row {numbers[row]}", 1)
        raise ValueError(text) from e


def _check_labels(
    used: Sequence[int], truth: Sequence[str | None], labels: Sequence[str], column: str
) -> None:
    for i in used:
        if truth[i] is not None and truth[i] not in labels:
            raise ValueError(
                f"row {i + 1} has the label {truth[i]!r} in column {column!r}, which is not one of "
                f"{', '.join(labels)}"
            )


def _weights(table: Table, column: str | None, used: Sequence[int]) -> NDArray[np.float64] | None:
    if column is None:
        return None
    weight = read_numbers(table, column)
    for i in used:
        if not weight[i] >= 0:  # NaN neither
            found = "none" if np.isnan(weight[i]) else f"{weight[i]:g}"
            raise ValueError(
                f"row {i + 1} must have a weight in column {column!r}, 0 or more, and has {found}"
            )
    return weight[list(used)]
