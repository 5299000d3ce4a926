"""Labels and probabilities in every accepted form -> one plain form the metrics can trust."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

# Rows may miss 1 by rounding only. Two-decimal self-reports (0.99, 1.01) must be refused, not used.
_SUM_TOLERANCE = 1e-5
# The range that integer labels usually keep to.
_FEW = 1000


class Checked(NamedTuple):
    """Validated input: ``proba`` (n, K), ``codes`` (n,), ``classes`` (K,), ``weight`` (n,).

    Some of them may be the caller's own arrays, or take no memory: nobody may write to them.
    """

    proba: NDArray[np.float64]
    codes: NDArray[np.int64]
    classes: NDArray[Any]
    weight: NDArray[np.float64]


def two_columns(positive: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(1 - p, p)`` of shape (n, 2), each column in one piece."""
    columns = np.empty((2, positive.size))
    np.subtract(1, positive, out=columns[0])
    columns[1] = positive
    return columns.T


def check_proba(y_proba: ArrayLike, *, flat: bool = False) -> NDArray[np.float64]:
    """Return probabilities as an (n, K) float64 matrix; 1-D ``p`` becomes ``(1 - p, p)``.

    Rows are checked, never renormalised: dividing would break ties between equal confidences in
    their last bit. What is returned may be the caller's own array.

    Parameters
    ----------
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities in [0, 1]; the rows of a matrix sum to 1.
    flat : bool, default=False
        Leave 1-D probabilities as they are.

    Returns
    -------
    proba : ndarray of shape (n_samples, n_classes), or (n_samples,)
        The same in float64.

    Raises
    ------
    ValueError
        If the shape is wrong, a value is NaN or outside [0, 1], or a row does not sum to 1.
    """
    raw = np.asarray(y_proba)
    try:
        proba = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"y_proba must hold numbers, got dtype {raw.dtype}.") from error
    if proba.ndim not in (1, 2) or proba.shape[0] == 0:
        raise ValueError(
            "y_proba must have shape (n_samples,) or (n_samples, n_classes) with at least one "
            f"row, got shape {proba.shape}."
        )
    if proba.ndim == 2 and proba.shape[1] < 2:
        raise ValueError(f"y_proba needs at least two columns, one a class, got {proba.shape}.")
    # One pass over good input; which row is wrong is looked up only when one is (NaN included).
    if not (proba.min() >= 0 and proba.max() <= 1):
        _refuse_values(proba.reshape(proba.shape[0], -1))
    if proba.ndim == 1:
        return proba if flat else two_columns(proba)
    sums = proba @ np.ones(proba.shape[1])  # several times faster than sum(axis=1)
    precision = np.finfo(raw.dtype).eps if raw.dtype.kind == "f" else 0.0
    wrong = np.flatnonzero(np.abs(sums - 1) > max(_SUM_TOLERANCE, float(precision) ** 0.5))
    if wrong.size:
        raise ValueError(
            f"every row of y_proba must sum to 1, but row {wrong[0]} sums to "
            f"{sums[wrong[0]]:.6g} ({wrong.size} row(s) in all). Renormalise the rows, or pass "
            "probabilities instead of scores."
        )
    return proba


def check_log_proba(log_proba: ArrayLike, name: str = "log_proba") -> NDArray[np.float64]:
    """Return scores as normalised (n, K) log-probabilities; minus infinity is allowed."""
    rows = np.asarray(log_proba, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] < 2:
        raise ValueError(
            f"{name} must have shape (n_samples, n_classes) with at least one row and two columns, "
            f"got {rows.shape}."
        )
    wrong = np.flatnonzero(~(rows < np.inf).all(axis=1) | np.isneginf(rows).all(axis=1))
    if wrong.size:
        raise ValueError(
            f"{name} holds NaN or infinity, or no possible class, in row {wrong[0]}: "
            f"{rows[wrong[0]].tolist()}."
        )
    return np.asarray(rows - logsumexp(rows, axis=1, keepdims=True), dtype=np.float64)


def _refuse_values(rows: NDArray[np.float64]) -> None:
    missing = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if missing.size:
        raise ValueError(
            f"y_proba holds NaN or infinity in {missing.size} row(s), first in row {missing[0]}."
        )
    outside = np.flatnonzero(((rows < 0) | (rows > 1)).any(axis=1))
    raise ValueError(
        f"y_proba must lie in [0, 1], but row {outside[0]} is {rows[outside[0]].tolist()}."
    )


def check_weight(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    """Return one finite, non-negative float64 weight a row (ones when none are given)."""
    if sample_weight is None:
        return np.broadcast_to(1.0, (n_rows,))  # takes no memory; nobody may write to it
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), got {weight.shape}.")
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if wrong.size:
        raise ValueError(
            f"sample_weight must be finite and not negative, but row {wrong[0]} has "
            f"{weight[wrong[0]]}."
        )
    if not weight.any():
        raise ValueError("sample_weight is zero everywhere.")
    return weight


def check_labels(labels: ArrayLike) -> NDArray[Any]:
    """Return the column classes, which must be distinct and sorted as scikit-learn sorts them."""
    classes = np.asarray(labels)
    if classes.ndim != 1 or classes.size < 2:
        raise ValueError(f"labels must list at least two classes, got {labels!r}.")
    ordered = np.unique(classes)
    if ordered.size < classes.size:
        raise ValueError(f"labels must not repeat a class, got {classes.tolist()}.")
    if not np.array_equal(ordered, classes):
        # Sorting in silence would swap columns for everyone who listed them in their own order.
        raise ValueError(
            "labels must be sorted, and the columns of y_proba in the same order, as in "
            f"estimator.classes_; got {classes.tolist()}, expected {ordered.tolist()}."
        )
    return classes


def check_input(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    pos_label: object = None,
    sample_weight: ArrayLike | None = None,
    flat: bool = False,
) -> Checked:
    """Validate labels, probabilities and weights together; rows of weight zero are dropped.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: strings, integers or booleans.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities; 1-D holds those of ``pos_label``.
    labels : array-like of shape (n_classes,), default=None
        Sorted classes of the columns; taken from `y_true` when None.
    pos_label : object, default=None
        The class that 1-D probabilities belong to; the last label when None.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    flat : bool, default=False
        Leave 1-D probabilities as they are, for those who make columns of a few rows at a time.

    Returns
    -------
    checked : Checked
        The input in one plain form.

    Raises
    ------
    ValueError
        If anything does not fit; the message names the row or the value.
    """
    proba = check_proba(y_proba, flat=flat)
    n_columns = 2 if proba.ndim == 1 else proba.shape[1]
    truth = np.asarray(y_true)
    if truth.ndim != 1:
        raise ValueError(f"y_true must have shape (n_samples,), got {truth.shape}.")
    if truth.shape[0] != proba.shape[0]:
        raise ValueError(
            f"y_true has {truth.shape[0]} rows and y_proba has {proba.shape[0]}; they must agree."
        )
    check_present(truth)
    classes = distinct(truth) if labels is None else check_labels(labels)
    if classes.size != n_columns:
        raise ValueError(_column_message(classes, n_columns, labels is None))
    lookup = {label: code for code, label in enumerate(classes.tolist())}
    if pos_label is not None and pos_label not in lookup:
        raise ValueError(f"pos_label={pos_label!r} is not one of the labels {classes.tolist()}.")
    codes = encode(truth, classes)
    if np.ndim(y_proba) == 1 and pos_label is not None and lookup[pos_label] == 0:
        proba = 1 - proba if flat else proba[:, ::-1]
    weight = check_weight(sample_weight, proba.shape[0])
    if sample_weight is None or weight.min() > 0:
        return Checked(proba, codes, classes, weight)
    keep = weight > 0
    return Checked(proba[keep], codes[keep], classes, weight[keep])


def check_present(truth: NDArray[Any]) -> None:
    """Refuse labels that are missing."""
    if truth.dtype.kind in "biuU":
        return
    if truth.dtype.kind == "f":
        missing = np.flatnonzero(np.isnan(truth))
        row = int(missing[0]) if missing.size else None
    else:
        # pandas' NA can neither be compared nor imported without pandas: its name comes first.
        row = next(
            (
                row
                for row, value in enumerate(truth.tolist())
                if value is None or type(value).__name__ == "NAType" or value != value  # noqa: PLR0124 (NaN)
            ),
            None,
        )
    if row is not None:
        raise ValueError(f"y_true has no label in row {row}.")


def distinct(truth: NDArray[Any]) -> NDArray[Any]:
    """Return the classes that occur, sorted as scikit-learn sorts them."""
    if truth.dtype.kind in "bi" and truth.size:
        low, high = int(truth.min()), int(truth.max())
        if high - low <= 1:
            return np.unique(np.array([low, high])).astype(truth.dtype)
        if high - low < _FEW:  # to count them is faster than to sort them
            counts = np.bincount(truth.astype(np.int64, copy=False) - low)
            return (low + np.flatnonzero(counts)).astype(truth.dtype)
    if truth.dtype.kind != "O":
        return np.asarray(np.unique(truth))
    # Comparing a million objects with each other is slow, hashing them is not.
    found = list(set(truth.tolist()))
    return np.unique(np.fromiter(found, dtype=object, count=len(found)))


def encode(truth: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of the class of each label, refusing labels that are none of them."""
    kinds = truth.dtype.kind, classes.dtype.kind
    if all(kind in "bi" for kind in kinds) and int(classes[-1]) - int(classes[0]) < classes.size:
        # Integers without a gap number themselves.
        codes = truth.astype(np.int64, copy=False)
        codes = codes if classes[0] == 0 else codes - int(classes[0])
        within = truth.min() >= classes[0] and truth.max() <= classes[-1]
        unknown = np.flatnonzero(not within and (truth < classes[0]) | (truth > classes[-1]))
    elif kinds == ("U", "U") or all(kind in "biuf" for kind in kinds):
        codes = np.searchsorted(classes, truth).astype(np.int64)
        unknown = np.flatnonzero(classes[np.minimum(codes, classes.size - 1)] != truth)
    else:
        lookup = {label: code for code, label in enumerate(classes.tolist())}
        codes = np.array([lookup.get(value, -1) for value in truth.tolist()], dtype=np.int64)
        unknown = np.flatnonzero(codes < 0)
    if unknown.size:
        row = int(unknown[0])
        raise ValueError(
            f"y_true holds {truth[row : row + 1].tolist()[0]!r} in row {row}, which is not one of "
            f"the labels {classes.tolist()}."
        )
    return codes


def _column_message(classes: NDArray[Any], n_columns: int, inferred: bool) -> str:
    if inferred:
        return (
            f"y_true holds {classes.size} class(es), {classes.tolist()}, but y_proba describes "
            f"{n_columns}: say which with labels=, for scorers with "
            "calibration_scoring(labels=estimator.classes_)."
        )
    return (
        f"labels lists {classes.size} classes, {classes.tolist()}, but y_proba describes "
        f"{n_columns}. If it comes from cross-validation, the estimator was fitted on a fold "
        "without one of the classes: stratify the folds or declare the classes to the estimator."
    )
