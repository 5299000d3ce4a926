"""Class labels: what counts as one, which classes there are, and their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.label_arrays import (
    label_array,
    missing_rows,
    of_one_type,
)
from skllm_calib.utils.tables.cells import unpaired

__all__ = [
    "check_classes",
    "check_known",
    "check_labels",
    "check_pos_label",
    "check_whole",
    "counting_labels",
    "distinct",
    "encode",
    "encode_labels",
    "known_labels",
    "label_wording",
    "shown",
]

# The range that integer labels usually keep to.
_FEW = 1000


def check_labels(labels: Any, name: str = "y", *, n_rows: int | None = None) -> NDArray[Any]:
    """Return one label per row as a one-dimensional array of str, int, float or bool.

    Lists, tuples, arrays, Series, Categoricals, one-column frames and Arrow arrays are read alike,
    whatever their index. A column vector is taken with scikit-learn's ``DataConversionWarning``.

    Parameters
    ----------
    labels : array-like of shape (n_samples,) or (n_samples, 1)
        All texts, all numbers, or all booleans.
    name : str, default="y"
        What the caller names them.
    n_rows : int, default=None
        How many there have to be.

    Returns
    -------
    ndarray of shape (n_samples,)
        May be the caller's own array: nobody may write to it.

    Raises
    ------
    InvalidInput
        If a label is missing or of another type than the others, or the shape is wrong.

    Examples
    --------
    >>> import pandas as pd
    >>> from skllm_calib.log_proba.labels import check_labels
    >>> check_labels(pd.Series([3, 1], dtype="Int64"))
    array([3, 1])
    >>> check_labels(["ham", float("nan")])
    Traceback (most recent call last):
    ...
    skllm_calib.exceptions.InvalidInput: y has no label in row 1 (1 such row): every row needs one
    """
    array = label_array(labels, name, n_rows)
    missing = missing_rows(array)
    if missing.size:
        row = int(missing[0])
        rows = "row" if missing.size == 1 else "rows"
        raise InvalidInput(
            f"{name} has no label in row {row} ({missing.size} such {rows}): every row needs one",
            name,
            row,
            array[row : row + 1].tolist()[0],
        )
    return of_one_type(array, name)


def encode_labels(
    labels: Any, classes: NDArray[Any], name: str = "y", *, n_rows: int | None = None
) -> NDArray[np.int64]:
    """Return the class number of each label, and -1 where a label is missing.

    Parameters
    ----------
    labels : array-like of shape (n_samples,) or None
        As in `check_labels`, but some may be missing. None: all of them are (needs `n_rows`).
    classes : ndarray of shape (n_classes,)
        Sorted classes, as of `check_classes`.
    name : str, default="y"
        What the caller names the labels.
    n_rows : int, default=None
        How many there have to be.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    InvalidInput
        If a label is not one of the classes, or the shape is wrong.
    """
    if labels is None:
        return np.full(n_rows or 0, -1, dtype=np.int64)
    array = label_array(labels, name, n_rows)
    missing = missing_rows(array)
    if not missing.size:
        return encode(of_one_type(array, name), classes, name)
    codes = np.full(array.size, -1, dtype=np.int64)
    known = np.setdiff1d(np.arange(array.size), missing)
    if known.size:
        filled = array.astype(object)
        filled[missing] = filled[known[0]]  # so that rows keep their numbers in errors
        codes[known] = encode(of_one_type(filled, name), classes, name)[known]
    return codes


def known_labels(labels: Any, name: str = "y") -> NDArray[Any] | None:
    """Return the labels that are not missing, as `check_labels` does; None if all are."""
    array = label_array(labels, name)
    known = np.setdiff1d(np.arange(array.size), missing_rows(array))
    return of_one_type(array[known], name) if known.size else None


def check_classes(
    classes: Any, name: str = "classes", *, at_least: int = 2, sort: bool = False
) -> NDArray[Any]:
    """Return distinct classes in sorted order, of one type.

    Parameters
    ----------
    classes : array-like of shape (n_classes,)
        Labels in any container.
    name : str, default="classes"
        What the caller names them.
    at_least : int, default=2
        How many there have to be.
    sort : bool, default=False
        False refuses classes that are not sorted, as columns stand in sorted order; True sorts
        them and leaves out repetitions, where no column depends on their order.

    Returns
    -------
    ndarray of shape (n_classes,)

    Raises
    ------
    InvalidInput
        If they are too few, repeated or not sorted, or no labels.
    """
    given = check_labels(classes, name)
    ordered = np.unique(given)
    if not sort and ordered.size < given.size:
        raise InvalidInput(
            f"{name} must not repeat a class, got {shown(given.tolist())}", name, value=classes
        )
    if ordered.size < at_least:
        raise InvalidInput(
            f"{name} must list at least {'two' if at_least == 2 else at_least} classes, got "
            f"{given.tolist()}",
            name,
            value=classes,
        )
    if not sort and not np.array_equal(ordered, given):
        # Sorting in silence would swap columns for everyone who listed them in their own order.
        raise InvalidInput(
            f"{name} must be sorted, with the columns in the same order, as in "
            f"estimator.classes_: expected {shown(ordered.tolist())}, got {shown(given.tolist())}",
            name,
            value=classes,
        )
    return ordered


def check_pos_label(pos_label: object, classes: NDArray[Any], name: str = "pos_label") -> int:
    """Return the number of the class that 1-D probabilities belong to; None is the last one."""
    names: list[Any] = classes.tolist()
    if pos_label is None:
        return len(names) - 1
    if pos_label not in names:
        raise InvalidInput(
            f"{name}={pos_label!r} is not one of the labels {shown(names)}", name, value=pos_label
        )
    return names.index(pos_label)


def distinct(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the classes that occur among checked labels, sorted as scikit-learn sorts them."""
    if labels.dtype.kind in "bi" and labels.size:
        low, high = int(labels.min()), int(labels.max())
        if high - low <= 1:
            return np.unique(np.array([low, high])).astype(labels.dtype)
        if high - low < _FEW:  # to count them is faster than to sort them
            counts = np.bincount(labels.astype(np.int64, copy=False) - low)
            return (low + np.flatnonzero(counts)).astype(labels.dtype)
    return np.asarray(np.unique(labels))


def counting_labels(labels: NDArray[Any], weight: NDArray[np.float64] | None) -> NDArray[Any]:
    """Return labels in which rows of weight zero have the label of another row.

    So they add no class, cannot be at fault, and all rows keep their numbers in errors.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        As of `check_labels`.
    weight : ndarray of shape (n_samples,) or None
        As of `check_weight`; None for equal weights.
    """
    if weight is None or weight.min() > 0:
        return labels
    return np.asarray(np.where(weight > 0, labels, labels[weight.argmax()]))


def encode(labels: NDArray[Any], classes: NDArray[Any], name: str = "y") -> NDArray[np.int64]:
    """Return the class number of each checked label, refusing those that are none of the classes.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        As of `check_labels`.
    classes : ndarray of shape (n_classes,)
        As of `check_classes`. 1, 1.0 and True are the same label; 1 and "1" are not.
    name : str, default="y"
        What the caller names the labels.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    InvalidInput
        If a label is not one of the classes.
    """
    kinds = labels.dtype.kind, classes.dtype.kind
    if not labels.size:
        return np.zeros(0, dtype=np.int64)
    if all(kind in "bi" for kind in kinds) and int(classes[-1]) - int(classes[0]) < classes.size:
        # Integers without a gap number themselves.
        codes = labels.astype(np.int64, copy=False)
        codes = codes if classes[0] == 0 else codes - int(classes[0])
        within = labels.min() >= classes[0] and labels.max() <= classes[-1]
        unknown = np.flatnonzero(not within and (labels < classes[0]) | (labels > classes[-1]))
    elif kinds == ("U", "U") or all(kind in "biuf" for kind in kinds):
        codes = np.searchsorted(classes, labels).astype(np.int64)
        unknown = np.flatnonzero(classes[np.minimum(codes, classes.size - 1)] != labels)
    else:  # texts on one side, numbers on the other
        codes, unknown = np.zeros(labels.size, dtype=np.int64), np.array([0])
    if unknown.size:
        row = int(unknown[0])
        value = labels[row : row + 1].tolist()[0]
        raise InvalidInput(
            f"{name} holds {value!r} in row {row}, which is not one of the labels "
            f"{shown(classes.tolist())}",
            name,
            row,
            value,
        )
    return codes


def check_whole(labels: NDArray[Any], name: str = "y") -> None:
    """Refuse checked labels with fractions: measurements are not classes."""
    if labels.dtype.kind == "f" and (fractions := labels % 1 != 0).any():
        row = int(fractions.argmax())
        raise InvalidInput(  # begins as scikit-learn's message does
            f"Unknown label type: {name} holds the fraction {labels[row].item()!r} in row {row}, "
            "but a classifier needs classes: convert the labels to strings if it is one",
            name,
            row,
            labels[row].item(),
        )


def check_known(given: Iterable[Any], labels: Sequence[Any], name: str) -> None:
    """Refuse a label in `given` that is not among `labels`."""
    known = set(labels)
    strange = [label for label in given if label not in known]
    if strange:
        raise InvalidInput(
            f"{name} has {strange[0]!r}, which is not in classes {list(labels)}",
            name,
            value=strange[0],
        )


def label_wording(labels: Sequence[Any], label_texts: Mapping[Any, str] | None) -> list[str]:
    """Return the wording of each label for the prompt.

    Parameters
    ----------
    labels : sequence
        The labels, in the order of ``classes_``.
    label_texts : mapping or None
        Wordings by label.

    Returns
    -------
    list of str

    Raises
    ------
    InvalidInput
        If a wording is empty, is used twice, or belongs to no label.
    """
    given = label_texts or {}
    check_known(given, labels, "label_texts")
    texts = [str(given.get(label, label)).strip() for label in labels]
    by_text: dict[str, Any] = {}
    for label, text in zip(labels, texts, strict=True):
        if not text:
            raise InvalidInput(
                f"the text of label {label!r} is empty: give it one in label_texts",
                "label_texts",
                value=text,
            )
        if unpaired(text):
            raise InvalidInput(
                f"the text of label {label!r} contains an unpaired surrogate, which is no "
                "character: write it in other words in label_texts",
                "label_texts",
                value=text,
            )
        if text in by_text:
            raise InvalidInput(
                f"labels {by_text[text]!r} and {label!r} have the same text {text!r}: the model "
                "could not tell them apart; give them different ones in label_texts",
                "label_texts",
                value=text,
            )
        by_text[text] = label
    return texts


def shown(values: Sequence[Any], most: int = 8) -> str:
    """Write a list for a message, a long one by its first entries."""
    if len(values) <= most:
        return repr(list(values))
    return f"[{', '.join(map(repr, values[:most]))}, ... ({len(values)} in all)]"
