"""Ids and weights of rows, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.validation import Checked, check_weight

__all__ = [
    "Floats",
    "RowId",
    "Waiting",
    "check_equal_weights",
    "check_ids",
    "check_new",
    "check_waiting",
    "check_weights",
    "is_empty",
    "scored_rows",
    "watched",
]

Floats = NDArray[np.float64]
RowId = str | int


class Waiting(NamedTuple):
    """A row whose label is to come: its number, the confidence in a class, the class, a weight."""

    row: int
    confidence: float
    code: int
    weight: float


def watched(proba: Floats, column: int | None) -> tuple[Floats, NDArray[np.intp]]:
    """Return the watched confidence of each row and the class that it is about."""
    if column is not None:
        return proba[:, column], np.full(len(proba), column)
    top = proba.argmax(axis=1)
    return proba[np.arange(top.size), top], top


def is_empty(*given: Any) -> bool:
    """Tell whether there are no rows at all; None does not count."""
    return all(
        values is None or (hasattr(values, "__len__") and not len(values)) for values in given
    )


def scored_rows(given: Checked) -> Checked:
    """Return the reference rows that have probabilities; those that failed are left out."""
    scored = ~np.isnan(given.proba).any(axis=1)
    if scored.all():
        return given
    if not scored.any():
        raise InvalidInput("proba is NaN in every row: no row was scored", "proba")
    proba, codes, classes, weight = given
    return Checked(proba[scored], codes[scored], classes, weight[scored])


def check_ids(ids: Any, *, n_rows: int | None = None) -> list[RowId]:
    """Return distinct ids as plain strings and integers, which JSON keeps apart."""
    values = [value.item() if isinstance(value, np.generic) else value for value in ids]
    if n_rows is not None and len(values) != n_rows:
        raise InvalidInput(
            f"ids must hold one id per row, {n_rows} in all, got {len(values)}.",
            "ids",
            value=len(values),
        )
    seen: set[RowId] = set()
    for row, value in enumerate(values):
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise InvalidInput(
                f"ids must be strings or integers, got {value!r} in row {row}.", "ids", row, value
            )
        if value in seen:
            raise InvalidInput(f"ids holds {value!r} more than once.", "ids", row, value)
        seen.add(value)
    return values


def check_new(ids: Sequence[RowId], waiting: Collection[RowId]) -> None:
    """Refuse ids of rows that wait for a label already."""
    for row, name in enumerate(ids):
        if name in waiting:
            raise InvalidInput(
                f"ids holds {name!r}, which already waits for its label: give every row its own "
                "id.",
                "ids",
                row,
                name,
            )


def check_waiting(ids: Sequence[RowId], waiting: Collection[RowId], max_pending: int) -> None:
    """Refuse ids of rows that do not wait for a label."""
    unknown = [row for row, name in enumerate(ids) if name not in waiting]
    if unknown:
        first = ids[unknown[0]]
        raise InvalidInput(
            f"{len(unknown)} id(s) do not wait for a label, first {first!r}: never given to "
            f"update, labelled already, or dropped as one of more than {max_pending:,} "
            "(max_pending). Pass unknown='ignore' to skip them.",
            "ids",
            unknown[0],
            first,
            "unknown",
        )


def check_weights(
    sample_weight: ArrayLike | None, n_rows: int, largest: float, default: float | None = None
) -> Floats:
    """Return weights of at most `largest`, on which the bets of the e-detector rely.

    Without weights all rows get the default, or 1.
    """
    if sample_weight is None:
        return np.full(n_rows, 1.0 if default is None else default)
    weight = check_weight(sample_weight, n_rows)
    above = np.flatnonzero(weight > largest)
    if above.size:
        row = int(above[0])
        raise InvalidInput(
            f"sample_weight is {weight[row]:.6g} in row {row}, above the largest that the monitor "
            f"is prepared for, {largest:.6g}. Fit it with max_weight= one over the smallest "
            "probability with which a row is chosen to be labelled.",
            "sample_weight",
            row,
            float(weight[row]),
        )
    return weight


def check_equal_weights(weight: Floats, expected: float | None) -> None:
    """Refuse weights other than the only one that "cusum" has thresholds for."""
    if expected is None:
        return
    other = np.flatnonzero((weight != expected) & (weight > 0))
    if other.size:
        row = int(other[0])
        raise InvalidInput(
            f"sample_weight is {weight[row]:.6g} in row {row}, but the thresholds of 'cusum' are "
            f"for rows that all weigh {expected:.6g}, as in fit. Fit with the weights of reference "
            "rows that were sampled in the same way, or leave 'cusum' out of detectors.",
            "sample_weight",
            row,
            float(weight[row]),
        )
