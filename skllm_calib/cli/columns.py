"""Columns of a file by what they hold: numbers, ids, true labels, and what our commands wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skllm_calib.cli.tables import Table

__all__ = ["own_column", "proba_columns", "read_ids", "read_numbers", "read_true_labels"]

_PROBA = re.compile(r"(?:predicted_)*proba_(.+)", re.DOTALL)


def own_column(table: Table, name: str) -> str | None:
    """Return the column that ``predict`` or ``decide`` wrote under a name, or None.

    Theirs come after those of the user, and begin with ``predicted_`` where a name was taken.

    Examples
    --------
    >>> from skllm_calib.cli.tables import Table
    >>> own_column(Table(["text", "label", "predicted_label", "probability"], []), "label")
    'predicted_label'
    """
    ours = re.compile(rf"(?:predicted_)*{re.escape(name)}")
    return next((column for column in reversed(table.columns) if ours.fullmatch(column)), None)


def proba_columns(table: Table) -> dict[str, str]:
    """Return the columns with probabilities by their label, sorted by label.

    Examples
    --------
    >>> from skllm_calib.cli.tables import Table
    >>> proba_columns(Table(["text", "proba_spam", "predicted_proba_spam", "proba_ham"], []))
    {'ham': 'proba_ham', 'spam': 'predicted_proba_spam'}
    """
    found = {}
    for column in table.columns:
        if match := _PROBA.fullmatch(column):
            found[match[1]] = column  # of several, the last is ours
    return dict(sorted(found.items()))


def read_numbers(table: Table, column: str) -> NDArray[np.float64]:
    """Read a column of numbers, NaN where there is nothing.

    Raises
    ------
    ValueError
        If there is no such column, or a cell is something else; the message names it.
    """
    out = np.full(len(table.rows), np.nan)
    for i, text in enumerate(table.column(column)):
        if text is None or not text.strip():
            continue
        try:
            out[i] = float(text)
        except ValueError:
            raise ValueError(
                f"row {i + 1} has {text!r} in column {column!r}, which is not a number"
            ) from None
        if math.isinf(out[i]):
            raise ValueError(f"row {i + 1} has {text!r} in column {column!r}: it must be finite")
    return out


def read_ids(table: Table, column: str, rows: Sequence[int]) -> list[str]:
    """Read the ids of some rows, given by position, as texts: CSV files know no numbers.

    Raises
    ------
    ValueError
        If an id is missing or there twice; the message names the rows.
    """
    texts = table.column(column)
    seen: dict[str, int] = {}
    for i in rows:
        name = texts[i]
        if name is None or not name.strip():
            raise ValueError(f"row {i + 1} has no id in column {column!r}")
        if name in seen:
            raise ValueError(
                f"rows {seen[name] + 1} and {i + 1} have the same id {name!r} in column "
                f"{column!r}: it must tell the rows apart"
            )
        seen[name] = i
    return list(seen)


def read_true_labels(table: Table, column: str) -> list[str | None]:
    """Read a column of true labels, None where there is nothing.

    Raises
    ------
    ValueError
        If there is no such column, or it is the one where ``predict`` put what the model said:
        measured by its own labels, every model is always right.
    """
    labels = table.column(column)
    ours = column == own_column(table, "label") and own_column(table, "probability") is not None
    if ours and proba_columns(table):
        raise ValueError(
            f"column {column!r} holds the labels that the model gave, as it comes with "
            "'probability': name the column of the true labels (or rename this one, if it is that)"
        )
    return [None if label is None or not label.strip() else label.strip() for label in labels]
