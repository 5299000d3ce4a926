"""Tables of predictions, as the command line writes them: probabilities, ids, true labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.utils.tables import Table
from skllm_calib.utils.tables.cells import label_of, text_of

__all__ = [
    "Probabilities", "free_names", "own_cells", "own_column", "proba_columns", "read_ids",
    "read_probabilities", "read_true_labels",
]  # fmt: skip

_PROBA = re.compile(r"(?:predicted_)*proba_(.+)", re.DOTALL)
# What the metrics let pass. Beyond it, three decimals in each cell are taken for rounding, and put
# right; two are too few to be probabilities.
_EXACT = 1e-5
_HALF_A_DIGIT = 0.0005


def own_column(table: Table, name: str) -> str | None:
    """Return the column that ``predict`` or ``decide`` wrote under a name, or None.

    Theirs come after those of the user, and begin with ``predicted_`` where a name was taken.

    Examples
    --------
    >>> own_column(Table(["text", "label", "predicted_label", "probability"], []), "label")
    'predicted_label'
    """
    ours = re.compile(rf"(?:predicted_)*{re.escape(name)}")
    return next((column for column in reversed(table.columns) if ours.fullmatch(column)), None)


def proba_columns(table: Table) -> dict[str, str]:
    """Return the columns with probabilities by their label, sorted by label.

    Examples
    --------
    >>> proba_columns(Table(["text", "proba_spam", "predicted_proba_spam", "proba_ham"], []))
    {'ham': 'proba_ham', 'spam': 'predicted_proba_spam'}
    """
    found = {}
    for column in table.columns:
        if match := _PROBA.fullmatch(column):
            found[label_of(match[1]) or ""] = column  # of several, the last is ours
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of all rows (n, K), columns in the order of the sorted labels; NaN: failed."""

    labels: list[str]
    matrix: NDArray[np.float64]

    def answered(self) -> list[int]:
        """Return the positions of the rows that have probabilities."""
        return [int(i) for i in np.flatnonzero(~np.isnan(self.matrix[:, 0]))]


def read_probabilities(table: Table) -> Probabilities:
    """Read the columns ``proba_<LABEL>``; ValueError names the row and the column at fault.

    Where the file had such a column before, that of the command is ``predicted_proba_<LABEL>``.
    """
    columns = proba_columns(table)
    if len(columns) < 2:
        found = ", ".join(repr(column) for column in columns.values()) or "none"
        raise InvalidInput(
            "there must be a column proba_LABEL for each of two labels or more, as 'skllm-calib "
            f"predict' and 'decide' write them; found: {found}",
            "table",
        )
    names = list(columns.values())
    matrix = np.array([table.numbers(name, decimal_comma=True) for name in names]).T
    empty = np.isnan(matrix)
    for i in np.flatnonzero(empty.any(axis=1) & ~empty.all(axis=1)).tolist():
        raise InvalidInput(
            f"{table.name(i)} has nothing in column {names[int(empty[i].argmax())]!r}, but in "
            f"{names[int(empty[i].argmin())]!r}: a row has all probabilities, or none if it failed",
            "table",
            value=float("nan"),
        )
    for i, k in np.argwhere((matrix < 0) | (matrix > 1)):
        raise InvalidInput(
            f"{table.name(i)} has {matrix[i, k]:g} in column {names[k]!r}: a probability lies "
            "between 0 and 1",
            "table",
            value=matrix[i, k],
        )
    sums = matrix.sum(axis=1)
    for i in np.flatnonzero(np.abs(sums - 1) > _HALF_A_DIGIT * len(names) + _EXACT).tolist():
        shown = ", ".join(repr(name) for name in names[:5]) + ", ..." * (len(names) > 5)
        raise InvalidInput(
            f"{table.name(i)} has probabilities that sum to {sums[i]:.6g}, not to 1, in {shown}",
            "table",
            value=sums[i],
        )
    rounded = np.abs(sums - 1) > _EXACT
    matrix[rounded] /= sums[rounded, None]
    return Probabilities(list(columns), matrix)


def read_ids(table: Table, column: str, rows: Sequence[int]) -> list[str]:
    """Read the ids of some rows; ValueError where one is missing or there twice."""
    ids = table.labels(column)
    seen: dict[str, int] = {}
    for i in rows:
        name = ids[i]
        if name is None:
            raise InvalidInput(
                f"{table.name(i)} has no id in column {column!r}", "table", value=None
            )
        if name in seen:
            raise InvalidInput(
                f"{table.name(seen[name])} and {table.name(i)} have the same id {name!r} in column "
                f"{column!r}, which must identify each row",
                "table",
                value=name,
            )
        seen[name] = i
    return list(seen)


def read_true_labels(table: Table, column: str) -> list[str | None]:
    """Read a column of true labels, None where there is nothing.

    Refused is the column where ``predict`` put what the model said: measured by its own labels,
    every model is always right.
    """
    labels = table.labels(column)
    ours = column == own_column(table, "label") and own_column(table, "probability") is not None
    if ours and proba_columns(table):
        raise InvalidInput(
            f"column {column!r} holds the labels that the model gave, as it comes with "
            "'probability': name the column of the true labels (or rename this one, if it is that)",
            "column",
            value=column,
        )
    return labels


def own_cells(table: Table, name: str, read: Callable[[Any], Any] = text_of) -> list[Any]:
    """Return the cells that ``predict`` or ``decide`` wrote under a name; None without them."""
    column = own_column(table, name)
    return [None] * len(table.rows) if column is None else table.column(column, read)


def free_names(taken: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return names of columns, each with ``predicted_`` in front as often as it is taken.

    Examples
    --------
    >>> free_names(["text", "label"], ["label", "probability"])
    ['predicted_label', 'probability']
    """
    found, taken = [], set(taken)
    for name in names:
        while name in taken:
            name = f"predicted_{name}"  # noqa: PLW2901
        found.append(name)
    return found
