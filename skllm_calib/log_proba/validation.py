"""Labels, probabilities and weights in every accepted form -> one plain form to compute with.

All public functions and estimators that take them read them here, so that the same input means the
same everywhere, or is refused with the same `InvalidInput`, which knows parameter, row and value.

- `check_input` reads labels, probabilities and weights together.
- `check_proba`, `check_log_proba`, `check_weight` read one of them.
- `check_labels`, `check_classes`, `encode_labels` (in `log_proba.labels`) read labels alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import (
    check_classes,
    check_labels,
    check_pos_label,
    distinct,
    encode,
    encode_labels,
    known_labels,
    shown,
)
from skllm_calib.log_proba.numerics import log_normalise
from skllm_calib.log_proba.tables import (
    Table,
    column_order,
    labels_of_names,
    named_class,
    read_table,
)

__all__ = [
    "FIT_NAMES",
    "LOG_NAMES",
    "METRIC_NAMES",
    "Checked",
    "Names",
    "check_input",
    "check_log_input",
    "check_log_proba",
    "check_log_rows",
    "check_proba",
    "check_weight",
    "two_columns",
]

# Rows may miss 1 by rounding only. Two-decimal self-reports (0.99, 1.01) must be refused, not used.
_SUM_TOLERANCE = 1e-5


class Names(NamedTuple):
    """How a function names its arguments, for its errors."""

    y: str
    proba: str
    classes: str
    weight: str = "sample_weight"
    labels_first: bool = True

    @property
    def order(self) -> str:
        """The two arguments that are easily swapped, as the function takes them."""
        pair = (self.y, self.proba) if self.labels_first else (self.proba, self.y)
        return f"the order of arguments is ({', '.join(pair)})"


METRIC_NAMES = Names("y_true", "y_proba", "labels")
FIT_NAMES = Names("y", "proba", "classes")
LOG_NAMES = Names("y", "log_proba", "classes", labels_first=False)


class Checked(NamedTuple):
    """Validated input: ``proba`` (n, K), ``codes`` (n,), ``classes`` (K,), ``weight`` (n,).

    Some of them may be the caller's own arrays, or take no memory: nobody may write to them.
    """

    proba: NDArray[np.float64]
    codes: NDArray[np.int64]
    classes: NDArray[Any]
    weight: NDArray[np.float64]


def check_input(
    y: Any,
    proba: Any,
    *,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
    names: Names = METRIC_NAMES,
    allow_unlabelled: bool = False,
    allow_unscored: bool = False,
    flat: bool = False,
) -> Checked:
    """Validate labels, probabilities and weights together; rows of weight zero are dropped.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or None
        True labels, in any container that `check_labels` reads.
    proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities, as in `check_proba`. The columns of a frame that are named by the labels are
        taken by name.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. None takes them from `y`; where it lacks some, or there is
        no `y`, from the names of the columns.
    pos_label : object, default=None
        The class that 1-D probabilities belong to. None takes the one that a Series is named by,
        otherwise the last class.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    names : Names, default=METRIC_NAMES
        What errors call the arguments.
    allow_unlabelled : bool, default=False
        Whether labels may be missing, all of them with ``y=None``; their code is -1.
    allow_unscored : bool, default=False
        Whether rows may have no probabilities, as in `check_proba`.
    flat : bool, default=False
        Leave 1-D probabilities as they are, for those who make columns of a few rows at a time.

    Returns
    -------
    checked : Checked
        The input in one plain form.

    Raises
    ------
    InvalidInput
        If anything does not fit; it knows the parameter, the row and the value.

    Examples
    --------
    >>> import pandas as pd
    >>> from skllm_calib.log_proba.validation import check_input
    >>> proba = pd.DataFrame({"spam": [0.9, 0.2], "ham": [0.1, 0.8]})
    >>> checked = check_input(["spam", "ham"], proba)
    >>> checked.classes.tolist(), checked.codes.tolist(), checked.proba.tolist()
    (['ham', 'spam'], [1, 0], [[0.1, 0.9], [0.8, 0.2]])
    """
    if y is None and not allow_unlabelled:
        raise InvalidInput(f"{names.y} is None: labels are needed", names.y)
    try:
        table = _read_proba(proba, names.proba)
    except InvalidInput as error:
        raise _with_order(error, names) from error.__cause__
    n_rows = len(table.values)
    truth = None
    if not allow_unlabelled:
        truth = _check_truth(y, n_rows, names)
    known = known_labels(y, names.y) if truth is None and y is not None else truth
    classes = resolve_classes(labels, known, table, names)
    checked = _check_table(
        table, names.proba, classes, pos_label, allow_unscored=allow_unscored, flat=flat
    )
    if truth is not None:
        codes = encode(truth, classes, names.y)
    else:
        codes = encode_labels(y, classes, names.y, n_rows=n_rows)
    weight = check_weight(sample_weight, n_rows, names.weight)
    if sample_weight is None or weight.min() > 0:
        return Checked(checked, codes, classes, weight)
    keep = weight > 0
    return Checked(checked[keep], codes[keep], classes, weight[keep])


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
    table = _read_proba(proba, name)
    return _check_table(table, name, classes, pos_label, allow_unscored=allow_unscored, flat=flat)


def check_log_input(
    log_proba: Any,
    y: Any,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    names: Names = LOG_NAMES,
) -> Checked:
    """Validate scores, labels and weights together, as calibrators are fitted on them.

    Parameters
    ----------
    log_proba : array-like of shape (n_samples, n_classes)
        Log-probabilities, up to a constant of each row; minus infinity is allowed. The columns of a
        frame that are named by the classes are taken by name.
    y : array-like of shape (n_samples,)
        True labels.
    classes : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. None takes them from `y`; where it lacks some, from the names
        of the columns.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights. Rows of weight zero are dropped, and may hold anything.
    names : Names, default=LOG_NAMES
        What errors call the arguments.

    Returns
    -------
    checked : Checked
        Its ``proba`` are the scores as they are, not normalised.

    Raises
    ------
    InvalidInput
        If anything does not fit; it knows the parameter, the row and the value.
    """
    try:
        table = read_table(log_proba, names.proba)
    except InvalidInput as error:
        raise _with_order(error, names) from error.__cause__
    rows = table.values
    _check_matrix(rows, names.proba, least=1)
    truth = _check_truth(y, len(rows), names)
    known = resolve_classes(classes, truth, table, names, at_least=1)
    rows = in_order(rows, table.names, known, names.proba)
    codes = encode(truth, known, names.y)
    weight = check_weight(sample_weight, len(rows), names.weight)
    counted = weight > 0
    if counted.all():
        check_log_rows(rows, names.proba)
        return Checked(rows, codes, known, weight)
    check_log_rows(np.where(counted[:, None], rows, 0.0), names.proba)
    return Checked(rows[counted], codes[counted], known, weight[counted])


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
    _check_matrix(rows, name, least=2 if classes is None else 1)
    if classes is not None:
        rows = in_order(rows, names, classes, name)
    check_log_rows(rows, name)
    return log_normalise(rows) if normalise else rows


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
            raise InvalidInput(
                f"{name}: row {row} {problem} ({bad.sum()} such rows). Leave such rows out or give "
                "them a fallback first",
                name,
                row,
                rows[row].tolist(),
            )


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


def _with_order(error: InvalidInput, names: Names) -> InvalidInput:
    """Say in which order the arguments stand, where one holds what the other should."""
    return InvalidInput(
        f"{error}; {names.order}",
        error.parameter,
        error.row,
        error.value,
    )


def _check_truth(y: Any, n_rows: int, names: Names) -> NDArray[Any]:
    if np.ndim(y) == 2 and np.shape(y)[1] > 1:
        raise InvalidInput(
            f"{names.y} must hold one label per row, got a matrix of shape {np.shape(y)}; "
            f"{names.order}",
            names.y,
            value=np.shape(y),
        )
    truth = check_labels(y, names.y)
    if len(truth) != n_rows:
        raise InvalidInput(
            f"{names.y} has {len(truth)} rows and {names.proba} has {n_rows}; they must agree",
            names.y,
            value=len(truth),
        )
    return truth


def resolve_classes(
    labels: Any, truth: NDArray[Any] | None, table: Table, names: Names, *, at_least: int = 2
) -> NDArray[Any]:
    """Return the classes of the columns: those given, those of y, or those named by a frame."""
    n_columns = 2 if table.values.ndim == 1 else table.values.shape[1]
    if labels is not None:
        classes = check_classes(labels, names.classes, at_least=at_least)
        if classes.size != n_columns:
            raise InvalidInput(
                f"{names.classes} lists {classes.size} classes, {shown(classes.tolist())}, but "
                f"{names.proba} describes {n_columns}. In cross-validation a fold may lack a "
                "class: stratify the folds, or declare the classes to the estimator",
                names.classes,
                value=classes.tolist(),
            )
        return classes
    present = [] if truth is None else distinct(truth).tolist()
    if len(present) != n_columns and table.values.ndim == 2:
        named = labels_of_names(table.names, present)
        if named is not None:
            return np.unique(named)
    if truth is None:
        return np.arange(n_columns)
    classes = distinct(truth)
    if classes.size != n_columns:
        swapped = ""
        if truth.dtype.kind == "f" and (truth % 1 != 0).any():
            swapped = f"; {names.order}"
        raise InvalidInput(
            f"{names.y} holds {classes.size} class(es), {shown(classes.tolist())}, but "
            f"{names.proba} describes {n_columns}: pass all of them as {names.classes}=, as "
            f"estimator.classes_ has them{swapped}",
            names.y,
            value=classes.tolist(),
        )
    return classes


def _check_matrix(rows: NDArray[np.float64], name: str, *, least: int) -> None:
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] < least:
        raise InvalidInput(
            f"{name} must have shape (n_samples, n_classes), with at least one row and "
            f"{'two columns' if least == 2 else 'one column'}, got {rows.shape}",
            name,
            value=rows.shape,
        )


def _read_proba(proba: Any, name: str) -> Table:
    table = read_table(proba, name)
    shape = table.values.shape
    if len(shape) not in (1, 2) or shape[0] == 0:
        raise InvalidInput(
            f"{name} must have shape (n_samples,) or (n_samples, n_classes) with at least one "
            f"row, got shape {shape}",
            name,
            value=shape,
        )
    if len(shape) == 2 and shape[1] < 2:
        raise InvalidInput(
            f"{name} needs at least two columns, one per class, got shape {shape}; pass the "
            "probabilities of one of two classes as one dimension",
            name,
            value=shape,
        )
    return table


def _check_table(
    table: Table,
    name: str,
    classes: NDArray[Any] | None,
    pos_label: object,
    *,
    allow_unscored: bool,
    flat: bool,
) -> NDArray[np.float64]:
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
    if order is None or order == list(range(len(order))):
        return rows
    return rows[:, order]


def _check_values(
    proba: NDArray[np.float64], name: str, *, allow_unscored: bool
) -> NDArray[np.bool_] | None:
    """Refuse values that are no probabilities; return which rows have none, if they may."""
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
