"""The probabilities of a file that ``predict`` or ``decide`` wrote, one column a label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skllm_calib.cli.columns import proba_columns, read_numbers
from skllm_calib.cli.tables import Table

__all__ = ["Probabilities", "read_probabilities"]

# What the metrics let pass. Beyond it, three decimals in each cell are taken for rounding, and put
# right; two are too few to be probabilities.
_EXACT = 1e-5
_HALF_A_DIGIT = 0.0005


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of rows, columns in the order of the sorted labels.

    Attributes
    ----------
    labels : list of str
        The labels, sorted.
    matrix : ndarray of shape (n_rows, n_labels)
        Probabilities; NaN for rows that have none, as those that failed.
    """

    labels: list[str]
    matrix: NDArray[np.float64]

    def answered(self) -> list[int]:
        """Return the positions of the rows that have probabilities."""
        return [int(i) for i in np.flatnonzero(~np.isnan(self.matrix[:, 0]))]


def read_probabilities(table: Table) -> Probabilities:
    """Read the columns ``proba_<LABEL>`` of a table.

    Where the file had such a column before, that of the command is ``predicted_proba_<LABEL>``.

    Parameters
    ----------
    table : Table
        The rows.

    Returns
    -------
    Probabilities

    Raises
    ------
    ValueError
        If there are fewer than two such columns, or a row does not hold probabilities: the message
        names the row, counted from 1, and the column.
    """
    columns = proba_columns(table)
    if len(columns) < 2:
        found = ", ".join(repr(column) for column in columns.values()) or "none"
        raise ValueError(
            "there must be a column proba_LABEL for each of two labels or more, as 'skllm-calib "
            f"predict' and 'decide' write them; found: {found}"
        )
    names = list(columns.values())
    matrix = np.column_stack([read_numbers(table, name) for name in names])
    empty = np.isnan(matrix)
    for i in np.flatnonzero(empty.any(axis=1) & ~empty.all(axis=1)):
        raise ValueError(
            f"row {i + 1} has nothing in column {names[int(empty[i].argmax())]!r}, but in "
            f"{names[int(empty[i].argmin())]!r}: a row has all probabilities, or none if it failed"
        )
    for i, k in np.argwhere((matrix < 0) | (matrix > 1)):
        raise ValueError(
            f"row {i + 1} has {matrix[i, k]:g} in column {names[k]!r}: a probability lies between "
            "0 and 1"
        )
    sums = matrix.sum(axis=1)
    for i in np.flatnonzero(np.abs(sums - 1) > _HALF_A_DIGIT * len(names) + _EXACT):
        shown = ", ".join(repr(name) for name in names[:5]) + ", ..." * (len(names) > 5)
        raise ValueError(
            f"row {i + 1} has probabilities that sum to {sums[i]:.6g}, not to 1, in {shown}"
        )
    rounded = np.abs(sums - 1) > _EXACT
    matrix[rounded] /= sums[rounded, None]
    return Probabilities(list(columns), matrix)
