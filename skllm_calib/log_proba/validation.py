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
from skllm_calib.log_proba.label_arrays import is_missing, label_array
from skllm_calib.log_proba.labels import (
    check_classes,
    check_labels,
    counting_labels,
    distinct,
    encode,
    encode_labels,
    known_labels,
    shown,
)
from skllm_calib.log_proba.matrices import (
    Checked,
    check_log_proba,
    check_log_rows,
    check_matrix,
    check_proba,
    check_proba_table,
    check_weight,
    in_order,
    read_proba_table,
    two_columns,
)
from skllm_calib.log_proba.tables import Table, labels_of_names, read_table

__all__ = [
    "FIT_NAMES",
    "LOG_NAMES",
    "METRIC_NAMES",
    "Checked",
    "Names",
    "check_input",
    "check_log_input",
    "check_log_proba",
    "check_proba",
    "check_weight",
    "check_weighted_labels",
    "resolve_classes",
    "two_columns",
]


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
        taken by name. `Checked` rows of an earlier call are returned as they are, whatever the
        other arguments: who judges the same rows in many ways has them checked once.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns. None takes them from `y`; where it lacks some, or there is
        no `y`, from the names of the columns.
    pos_label : object, default=None
        The class that 1-D probabilities belong to. None takes the one that a Series is named by,
        otherwise the last class.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows. Those of weight zero may hold anything: any number or none, a missing
        or an unknown label.
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
    if isinstance(proba, Checked):
        return proba
    table = read_proba_table(proba, names.proba, hint=names.order)
    n_rows = len(table.values)
    weight = check_weight(sample_weight, n_rows, names.weight)
    counted = None if sample_weight is None or weight.min() > 0 else weight > 0
    table = table._replace(values=_evened(table.values, counted))
    labels_read, truth = None, None
    if y is not None or not allow_unlabelled:
        labels_read = _filled(_read_labels(y, n_rows, names), counted)
        read = known_labels if allow_unlabelled else check_labels
        truth = read(labels_read, names.y)
    classes = resolve_classes(labels, truth, table, names)
    checked = check_proba_table(
        table, names.proba, classes, pos_label, allow_unscored=allow_unscored, flat=flat
    )
    given = None if sample_weight is None else weight
    if truth is not None and not allow_unlabelled:
        codes = encode(counting_labels(truth, given), classes, names.y)
    else:
        codes = encode_labels(labels_read, classes, names.y, n_rows=n_rows)
    if counted is None:
        return Checked(checked, codes, classes, weight)
    return Checked(checked[counted], codes[counted], classes, weight[counted])


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
        Weights. Rows of weight zero are dropped, and may hold any number or none and any label.
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
    table = read_table(log_proba, names.proba, hint=names.order)
    check_matrix(table.values, names.proba, least=1, hint=names.order)
    n_rows = len(table.values)
    weight = check_weight(sample_weight, n_rows, names.weight)
    counted = None if sample_weight is None or weight.min() > 0 else weight > 0
    table = table._replace(values=_evened(table.values, counted))
    truth = check_labels(_filled(_read_labels(y, n_rows, names), counted), names.y)
    known = resolve_classes(classes, truth, table, names, at_least=1)
    rows = in_order(table.values, table.names, known, names.proba)
    given = None if sample_weight is None else weight
    codes = encode(counting_labels(truth, given), known, names.y)
    check_log_rows(rows, names.proba)
    if counted is None:
        return Checked(rows, codes, known, weight)
    return Checked(rows[counted], codes[counted], known, weight[counted])


def check_weighted_labels(
    y: Any, sample_weight: ArrayLike | None, *, n_rows: int | None = None, name: str = "y"
) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Validate labels and weights; a row of weight zero without a label gets that of another row.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels, as in `check_labels`.
    sample_weight : array-like of shape (n_samples,) or None
        Weights.
    n_rows : int or None, default=None
        How many there have to be.
    name : str, default="y"
        What the caller names the labels.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,) or None
        None if none are given.

    Raises
    ------
    InvalidInput
        If anything does not fit; it knows the parameter, the row and the value.
    """
    labels = label_array(y, name, n_rows)
    if sample_weight is None:
        return check_labels(labels, name), None
    weight = check_weight(sample_weight, len(labels))
    return check_labels(_filled(labels, None if weight.min() > 0 else weight > 0), name), weight


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
    if classes.size > n_columns:
        named = labels_of_names(table.names) or present
        beyond = next((one for one in present if one not in named), None)
        why = "it needs a column for each" if beyond is None else f"no column is named {beyond!r}"
        raise InvalidInput(
            f"{names.y} holds {classes.size} classes, {shown(present)}, but {names.proba} "
            f"describes only {n_columns}: {why}{_order_of_fractions(truth, names)}",
            names.y,
            value=present if beyond is None else beyond,
        )
    if classes.size < n_columns:
        raise InvalidInput(
            f"{names.y} holds {classes.size} class(es), {shown(present)}, but "
            f"{names.proba} describes {n_columns}: pass all of them as {names.classes}=, as "
            f"estimator.classes_ has them{_order_of_fractions(truth, names)}",
            names.y,
            value=present,
        )
    return classes


def _order_of_fractions(truth: NDArray[Any], names: Names) -> str:
    """Say in which order the arguments stand where labels look like probabilities."""
    fractions = truth.dtype.kind == "f" and bool((truth % 1 != 0).any())
    return f"; {names.order}" if fractions else ""


def _read_labels(y: Any, n_rows: int, names: Names) -> NDArray[Any]:
    labels = label_array(y, names.y, hint=names.order)
    if len(labels) != n_rows:
        raise InvalidInput(
            f"{names.y} has {len(labels)} rows and {names.proba} has {n_rows}; they must agree",
            names.y,
            value=len(labels),
        )
    return labels


# Rows that do not count are filled with what passes every check, so that the others keep their
# numbers in errors.


def _evened(values: NDArray[np.float64], counted: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return numbers in which the rows that do not count are even."""
    if counted is None:
        return values
    out = values.copy()
    out[~counted] = 0.5 if values.ndim == 1 else 1 / values.shape[1]
    return out


def _filled(labels: NDArray[Any], counted: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Return labels of which none is missing in a row that does not count."""
    if counted is None:
        return labels
    missing = np.array([is_missing(one) for one in labels])
    first = int((counted & ~missing).argmax())
    out = labels.copy()
    out[missing & ~counted] = labels[first]
    return out
