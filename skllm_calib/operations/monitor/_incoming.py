"""What comes in, checked in full before anything of the watch is changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.log_proba.labels import (
    check_classes,
    check_labels,
    distinct,
    encode,
    encode_labels,
)
from skllm_calib.log_proba.validation import check_proba, check_weight

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
    rows = check_proba(proba, name)
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
    labels = None if y is None else check_labels(y, n_rows=n_rows)
    if classes is not None:
        names = check_classes(classes)
    else:
        names = np.arange(n_classes) if labels is None else distinct(labels)
    if names.size != n_classes:
        how = "classes lists" if classes is not None else "y holds"
        raise ValueError(
            f"{how} {names.size} class(es), {names.tolist()}, but proba describes {n_classes}: say "
            "which with classes=."
        )
    codes = None if labels is None else encode(labels, names)
    weight = check_weight(sample_weight, n_rows)
    keep = weight > 0
    return ReferenceRows(rows[keep], None if codes is None else codes[keep], names, weight[keep])


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
    return encode_labels(y, classes, n_rows=n_rows)


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
