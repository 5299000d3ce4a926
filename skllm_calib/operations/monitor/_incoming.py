"""What comes in, checked in full before anything of the watch is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.validation import (
    check_labels,
    check_present,
    check_proba,
    check_weight,
    distinct,
    encode,
)

__all__ = [
    "ReferenceRows",
    "RowId",
    "Waiting",
    "check_columns",
    "check_ids",
    "check_known_labels",
    "check_reference",
    "check_weights",
    "watched",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
RowId = str | int


class ReferenceRows(NamedTuple):
    """Checked input of `fit`: (n, K), (n,) or None, (K,), (n,); no row has weight zero."""

    proba: Floats
    codes: Codes | None
    classes: NDArray[Any]
    weight: Floats


class Waiting(NamedTuple):
    """A row whose label is to come: its number, the confidence in a class, the class, a weight."""

    row: int
    confidence: float
    code: int
    weight: float


def check_columns(proba: ArrayLike, n_classes: int | None = None, name: str = "proba") -> Floats:
    """Return an (n, K) matrix of probabilities."""
    try:
        rows = check_proba(proba)
    except ValueError as error:
        raise ValueError(str(error).replace("y_proba", name)) from None
    if n_classes is not None and rows.shape[1] != n_classes:
        raise ValueError(
            f"{name} describes {rows.shape[1]} classes, but the monitor was fitted with "
            f"{n_classes}. A single row is a matrix of shape (1, {n_classes})."
        )
    return rows


def check_reference(
    proba: ArrayLike,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None,
    classes: ArrayLike | None,
) -> ReferenceRows:
    """Validate the input of `fit`."""
    rows = check_columns(proba)
    n_rows, n_classes = rows.shape
    labels = None if y is None else np.asarray(y)
    if labels is not None:
        if labels.shape != (n_rows,):
            raise ValueError(f"y must have shape ({n_rows},), got {labels.shape}.")
        _said_of("y", check_present, labels)
    if classes is not None:
        names = check_labels(classes)
    else:
        names = np.arange(n_classes) if labels is None else distinct(labels)
    if names.size != n_classes:
        how = "classes lists" if classes is not None else "y holds"
        raise ValueError(
            f"{how} {names.size} class(es), {names.tolist()}, but proba describes {n_classes}: say "
            "which with classes=."
        )
    codes = None if labels is None else _said_of("y", encode, labels, names)
    weight = check_weight(sample_weight, n_rows)
    keep = weight > 0
    return ReferenceRows(rows[keep], None if codes is None else codes[keep], names, weight[keep])


def _said_of(name: str, check: Callable[..., Any], *values: Any) -> Any:
    """Run a check of labels; it calls them `y_true`, as the metrics do."""
    try:
        return check(*values)
    except ValueError as error:
        raise ValueError(str(error).replace("y_true", name)) from None


def watched(proba: Floats, column: int | None) -> tuple[Floats, Codes]:
    """Return the watched confidence of each row and the class that it is about."""
    if column is not None:
        return proba[:, column], np.full(len(proba), column)
    top = proba.argmax(axis=1)
    return proba[np.arange(top.size), top], top


def check_ids(ids: Any, n_rows: int, name: str = "ids") -> list[RowId]:
    """Return distinct ids as plain strings and integers, which JSON keeps apart."""
    values = [value.item() if isinstance(value, np.generic) else value for value in ids]
    if len(values) != n_rows:
        raise ValueError(f"{name} must hold {n_rows} ids, one a row, got {len(values)}.")
    for value in values:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError(f"{name} must be strings or integers, got {value!r}.")
    if len(set(values)) < n_rows:
        repeated = next(value for number, value in enumerate(values) if value in values[:number])
        raise ValueError(f"{name} holds {repeated!r} more than once.")
    return values


def check_known_labels(y: Any, n_rows: int, classes: NDArray[Any]) -> Codes:
    """Return the class number of each label, and -1 where it is missing (None, NaN or NA)."""
    if y is None:
        return np.full(n_rows, -1, dtype=np.int64)
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise ValueError(f"y must have shape ({n_rows},), got {labels.shape}.")
    codes = np.full(n_rows, -1, dtype=np.int64)
    known = np.flatnonzero([not _is_missing(value) for value in labels.tolist()])
    names = set(classes.tolist())
    for row in known.tolist():  # here, as the row is counted with those that have no label
        if labels[row : row + 1].tolist()[0] not in names:
            raise ValueError(
                f"y holds {labels[row : row + 1].tolist()[0]!r} in row {row}, which is not one of "
                f"the classes {classes.tolist()}."
            )
    codes[known] = encode(labels[known], classes)
    return codes


def check_weights(sample_weight: ArrayLike | None, n_rows: int, largest: float) -> Floats:
    """Return weights of at most `largest`, on which the bets of the e-detector rely."""
    weight = check_weight(sample_weight, n_rows)
    above = np.flatnonzero(weight > largest)
    if above.size:
        raise ValueError(
            f"sample_weight is {weight[above[0]]:.6g} in row {above[0]}, above the largest that "
            f"the monitor is prepared for, {largest:.6g}. Fit it with max_weight= one over the "
            "smallest probability with which a row is chosen to be labelled."
        )
    return weight


def _is_missing(value: Any) -> bool:
    # pandas' NA can neither be compared nor imported without pandas: its name comes first.
    return bool(value is None or type(value).__name__ == "NAType" or value != value)  # noqa: PLR0124
