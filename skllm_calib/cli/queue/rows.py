"""Rows of a file as a review queue takes them, checked in full before the queue is touched."""

from __future__ import annotations

import argparse
from typing import Any

from skllm_calib.cli.columns import own_column, read_ids
from skllm_calib.cli.console import remark
from skllm_calib.cli.probabilities import Probabilities, read_probabilities
from skllm_calib.cli.tables import Table
from skllm_calib.operations.queue.rows import ACTIONS, Classes, check_row

__all__ = ["queue_rows"]

_NO_IDS = (
    "the file has no column 'id': name the column that tells the rows apart with --id COL, or have "
    "them numbered with --number-rows PREFIX (PREFIX-1, PREFIX-2, ...; another one for each file)"
)


def queue_rows(table: Table, args: argparse.Namespace) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the labels of a file, and its rows for ``ReviewQueue.add``.

    Parameters
    ----------
    table : Table
        Rows that ``predict`` or ``decide`` wrote.
    args : Namespace
        The arguments of ``queue add``.

    Raises
    ------
    ValueError
        If a row cannot be used; the message names it, counted from 1.
    """
    probabilities = read_probabilities(table)
    texts = table.column(args.text)
    used = [i for i, text in enumerate(texts) if text is not None and text.strip()]
    if not used:
        raise ValueError(f"no row of {args.file!r} has a text in column {args.text!r}")
    if left_out := len(texts) - len(used):
        remark(args, f"Left out {left_out} of {len(texts)} rows: they have no text.")
    ids = _ids(table, args, used)
    actions, reasons = _actions(table, args, probabilities)
    proposed = _cells(table, "label")
    evidence = {name: table.column(name) for name in args.evidence}

    classes = Classes(probabilities.labels)
    rows = []
    for name, i in zip(ids, used, strict=True):
        failed = actions[i] is None
        proba = dict(zip(probabilities.labels, probabilities.matrix[i].tolist(), strict=True))
        row = {
            "id": name,
            "text": texts[i],
            "proba": None if failed else proba,
            "action": "review" if failed else actions[i],
            "label": None if failed else proposed[i],
            "reason": reasons[i],
            "evidence": {name: cells[i] for name, cells in evidence.items()} or None,
        }
        try:
            check_row(row, classes)
        except ValueError as e:
            raise ValueError(f"row {i + 1} (id {name!r}): {e}") from None
        rows.append(row)
    return probabilities.labels, rows


def _ids(table: Table, args: argparse.Namespace, used: list[int]) -> list[str]:
    if args.number_rows is not None:
        return [f"{args.number_rows}-{i + 1}" for i in used]
    if args.id is None and "id" not in table.columns:
        raise ValueError(_NO_IDS)
    return read_ids(table, args.id or "id", used)


def _actions(
    table: Table, args: argparse.Namespace, probabilities: Probabilities
) -> tuple[list[str | None], list[str]]:
    """Return action and reason of each row; the action None means that the model failed."""
    if not args.review_all and own_column(table, "action") is None:
        raise ValueError(
            "the file has no column 'action' that says which rows go to a person: make it with "
            "'skllm-calib decide' or 'predict --threshold T', or pass --review-all"
        )
    meaning = {action: action for action in ACTIONS}
    for own, action in args.take_as:
        if action not in ACTIONS:
            raise ValueError(f"--take-as {own} {action}: it must be one of {', '.join(ACTIONS)}")
        meaning[own] = action
    given, why, failure = (_cells(table, name) for name in ("action", "reason", "failure"))
    actions: list[str | None] = [None] * len(table.rows)
    reasons = [f"the model failed: {text or 'no reason is given'}" for text in failure]
    for i in probabilities.answered():
        actions[i] = "review" if args.review_all else meaning.get(given[i] or "")
        reasons[i] = "" if args.review_all else why[i] or ""
        if actions[i] is None:
            raise ValueError(
                f"row {i + 1} has {given[i] or ''!r} in column {own_column(table, 'action')!r}: "
                f"it must be one of {', '.join(ACTIONS)}, or be explained with --take-as"
            )
    return actions, reasons


def _cells(table: Table, name: str) -> list[str | None]:
    """Return the cells of a column of ours, None where there is nothing."""
    column = own_column(table, name)
    if column is None:
        return [None] * len(table.rows)
    return [text or None for text in table.column(column)]
