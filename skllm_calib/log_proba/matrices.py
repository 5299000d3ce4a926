"""Numbers in every accepted form -> probabilities, log-probabilities, weights in one plain form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_pos_label, shown
from skllm_calib.log_proba.numerics import log_normalise
from skllm_calib.log_proba.tables import (
    Table,
    column_order,
    named_class,
    read_table,
    warn_by_position,
)

__all__ = [
    "Checked",
    "check_log_proba",
    "check_log_rows",
    "check_matrix",
    "check_proba",
    "check_proba_table",
    "check_weight",
    "in_order",
    "read_proba_table",
    "two_columns",
]

# Rows may miss 1 by rounding only. Two-decimal self-reports (0.99, 1.01) must be refused, not used.
_SUM_TOLERANCE = 1e-5


class Checked(NamedTuple):
    """Validated input: ``proba`` (n, K), ``codes`` (n,), ``classes`` (K,), ``weight`` (n,).

    Some of them may be the caller's own arrays, or take no memory: nobody may write to them.
    """

    proba: NDArray[np.float64]
    codes: NDArray[np.int64]
    classes: NDArray[Any]
    weight: NDArray[np.float64]


def check_proba(
    proba: Any,
    name: str = "proba",
    *,
    classes: NDArray[Any] | None = None,
    pos_label: object = None,
    allow_unscored: bool = False,
    flat: bool = False,
) -> NDArray[np.float64]:
    """Return probabilities as an (n, K) float64 matrix; 1-D ``p`` becomes ``(1 - p, p)``.

    Rows are checked, never renormalised: dividing would break ties between equal confidences in
    their last bit. What is returned may be the caller's own array.

    Parameters
    ----------
    proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1]. The rows of a matrix sum to 1, up to 1e-5 or to the square root
        of the epsilon of their dtype: 3e-4 for float32.
    name : str, default="proba"
        What the caller names them.
    classes : ndarray of shape (n_classes,), default=None
        Sorted classes. There has to be a column for each, and columns that are named by them are
        taken by name (see `column_order`).
    pos_label : object, default=None
        The class that 1-D probabilities belong to, with `classes`. None takes the one that a
        Series is named by, otherwise the last class.
    allow_unscored : bool, default=False
        Whether a row may hold NaN or a missing value; it is then NaN throughout.
    flat : bool, default=False
        Leave 1-D probabilities as they are.

    Returns
    -------
    proba : ndarray of shape (n_samples, n_classes), or (n_samples,)
        The same in float64.

    Raises
    ------
    InvalidInput
        If the shape is wrong, a value is missing or outside [0, 1], or a row does not sum to 1.
    """
    if isinstance(proba, Checked):
        return proba.proba
    table = read_proba_table(proba, name)
    return check_proba_table(
        table, name, classes, pos_label, allow_unscored=allow_unscored, flat=flat
    )


def check_log_proba(
    log_proba: Any,
    name: str = "log_proba",
    *,
    classes: NDArray[Any] | None = None,
    normalise: bool = True,
) -> NDArray[np.float64]:
    """Return scores as normalised (n, K) log-probabilities; minus infinity is allowed.

    Parameters
    ----------
    log_proba : array-like of shape (n_samples, n_classes)
        Log-probabilities, up to a constant of each row.
    name : str, default="log_proba"
        What the caller names them.
    classes : ndarray of shape (n_classes,), default=None
        Sorted classes, as in `check_proba`.
    normalise : bool, default=True
        False leaves the scores as they are.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)

    Raises
    ------
    InvalidInput
        If the shape is wrong, or a row holds NaN, plus infinity or no possible class.
    """
    rows, names, _ = read_table(log_proba, name)
    check_matrix(rows, name, least=2 if classes is None else 1)
    if classes is not None:
        rows = in_order(rows, names, classes, name)
    check_log_rows(rows, name)
    return log_normalise(rows) if normalise else rows


def check_weight(
    sample_weight: Any, n_rows: int, name: str = "sample_weight"
) -> NDArray[np.float64]:
    """Return one finite, non-negative float64 weight per row (ones when none are given).

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or None
        Weights in any container.
    n_rows : int
        How many there have to be.
    name : str, default="sample_weight"
        What the caller names them.

    Returns
    -------
    ndarray of shape (n_samples,)
        Nobody may write to it.

    Raises
    ------
    InvalidInput
        If the shape is wrong, a weight is missing, infinite or negative, or all are zero.
    """
    if sample_weight is None:
        return np.broadcast_to(1.0, (n_rows,))  # takes no memory; nobody may write to it
    weight = read_table(sample_weight, name).values
    if weight.shape != (n_rows,):
        raise InvalidInput(
            f"{name} must have shape ({n_rows},), got {weight.shape}", name, value=weight.shape
        )
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if wrong.size:
        row = int(wrong[0])
        raise InvalidInput(
            f"{name} must be finite and not negative, but row {row} has {weight[row]}",
            name,
            row,
            float(weight[row]),
        )
    if not weight.any():
        raise InvalidInput(f"{name} is zero everywhere: no row counts", name, value=0.0)
    return weight


def two_columns(positive: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(1 - p, p)`` of shape (n, 2), each column in one piece."""
    columns = np.empty((2, positive.size))
    np.subtract(1, positive, out=columns[0])
    columns[1] = positive
    return columns.T


def check_matrix(rows: NDArray[np.float64], name: str, *, least: int, hint: str = "") -> None:
    """Refuse what is not a matrix with rows and at least so many columns."""
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] < least:
        raise InvalidInput(
            f"{name} must have shape (n_samples, n_classes), with at least one row and "
            f"{'two columns' if least == 2 else 'one column'}, got {rows.shape}"
            f"{hint and f'; {hint}'}",
            name,
            value=rows.shape,
        )


def check_log_rows(rows: NDArray[np.float64], name: str = "log_proba") -> None:
    """Refuse rows of log-probabilities with NaN or plus infinity, or without a possible class."""
    if np.isfinite(rows.sum()):  # one glance at good input
        return
    for bad, problem in (
        (np.isnan(rows).any(axis=1), "contains NaN"),
        (np.isposinf(rows).any(axis=1), "contains plus infinity"),
        (np.isneginf(rows).all(axis=1), "has no finite entry"),
    ):
        if bad.any():
            row = int(bad.argmax())
            rows_word = "row" if bad.sum() == 1 else "rows"
            raise InvalidInput(
                f"{name}: row {row} {problem} ({bad.sum()} such {rows_word}). Leave such rows out "
                "or give them a fallback first",
                name,
                row,
                rows[row].tolist(),
            )


def in_order(
    rows: NDArray[np.float64], names: list[Any] | None, classes: NDArray[Any], name: str
) -> NDArray[np.float64]:
    """Return the columns in the order of the classes."""
    order = column_order(names, classes.tolist(), name)
    if rows.shape[1] != classes.size:
        raise InvalidInput(
            f"{name} has {rows.shape[1]} columns for the {classes.size} classes "
            f"{shown(classes.tolist())}",
            name,
            value=rows.shape,
        )
    if order is None:
        warn_by_position(names, classes.tolist(), name)
    if order is None or order == list(range(len(order))):
        return rows
    return rows[:, order]


def read_proba_table(proba: Any, name: str, *, hint: str = "") -> Table:
    """Read numbers of the shape of probabilities; their values are not looked at yet."""
    table = read_table(proba, name, hint=hint)
    shape = table.values.shape
    if len(shape) not in (1, 2) or shape[0] == 0:
        raise InvalidInput(
            f"{name} must have shape (n_samples,) or (n_samples, n_classes) with at least one "
            f"row, got shape {shape}{hint and f'; {hint}'}",
            name,
            value=shape,
        )
    if len(shape) == 2 and shape[1] < 2:
        raise InvalidInput(
            f"{name} needs at least two columns, one per class, got shape {shape}; pass the "
            f"probabilities of one of two classes as one dimension{hint and f'; {hint}'}",
            name,
            value=shape,
        )
    return table


def check_proba_table(
    table: Table,
    name: str,
    classes: NDArray[Any] | None,
    pos_label: object,
    *,
    allow_unscored: bool,
    flat: bool,
) -> NDArray[np.float64]:
    """Check a table that is read already, as `check_proba`."""
    proba = table.values
    # One pass over good input; which row is wrong is looked up only when one is (NaN included).
    unscored = None
    if not (proba.min() >= 0 and proba.max() <= 1):
        unscored = _check_values(proba, name, allow_unscored=allow_unscored)
    if proba.ndim == 2:
        _check_sums(proba, table.precision, name)
        if unscored is not None:
            proba = np.where(unscored[:, None], np.nan, proba)
        return proba if classes is None else in_order(proba, table.names, classes, name)
    if classes is not None:
        if classes.size != 2:
            raise InvalidInput(
                f"{name} has one dimension, which is enough for two classes, but there are "
                f"{classes.size}: pass shape (n_samples, {classes.size}), a single row as "
                f"(1, {classes.size})",
                name,
                value=proba.shape,
            )
        if _positive(table, classes, pos_label, name) == 0:
            return 1 - proba if flat else two_columns(proba)[:, ::-1]
    return proba if flat else two_columns(proba)


def _positive(table: Table, classes: NDArray[Any], pos_label: object, name: str) -> int:
    """Return the class that one-dimensional probabilities belong to."""
    positive = check_pos_label(pos_label, classes)
    named = named_class(table.names, classes.tolist())
    if named is None or named == positive:
        return positive
    if pos_label is None:
        return named
    raise InvalidInput(
        f"pos_label={pos_label!r}, but {name} is a Series named {(table.names or [''])[0]!r}, "
        "which is another class: rename it, or leave pos_label out",
        "pos_label",
        value=pos_label,
    )


def _check_values(
    proba: NDArray[np.float64], name: str, *, allow_unscored: bool
) -> NDArray[np.bool_] | None:
    """Refuse values that are not probabilities; return which rows have none, if they may."""
    rows = proba.reshape(proba.shape[0], -1)
    missing = np.asarray(np.isnan(rows).any(axis=1))
    outside = np.flatnonzero(((rows < 0) | (rows > 1)).any(axis=1))
    if missing.any() and not allow_unscored:
        row = int(missing.argmax())
        raise InvalidInput(
            f"{name} holds NaN or a missing value in {missing.sum()} row(s), first in row {row}",
            name,
            row,
            rows[row].tolist(),
        )
    if outside.size:
        row = int(outside[0])
        raise InvalidInput(
            f"{name} must lie in [0, 1], but row {row} is {rows[row].tolist()}",
            name,
            row,
            rows[row].tolist(),
        )
    return missing if allow_unscored else None


def _check_sums(proba: NDArray[np.float64], precision: float, name: str) -> None:
    sums = proba @ np.ones(proba.shape[1])  # several times faster than sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > max(_SUM_TOLERANCE, precision**0.5))
    if wrong.size:
        row = int(wrong[0])
        raise InvalidInput(
            f"every row of {name} must sum to 1, but row {row} sums to {sums[row]:.6g} "
            f"({wrong.size} row(s) in all). Renormalise the rows, or pass probabilities instead of "
            "scores",
            name,
            row,
            proba[row].tolist(),
        )
