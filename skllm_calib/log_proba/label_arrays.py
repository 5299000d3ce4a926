"""Containers of labels -> one plain array: pandas, polars, Arrow, NumPy, lists, column vectors."""

from __future__ import annotations

from numbers import Integral, Number, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import column_or_1d

from skllm_calib.exceptions import InvalidInput

__all__ = ["brief", "is_missing", "label_array", "missing_rows", "of_one_type"]


def is_missing(value: object) -> bool:
    """Tell whether a value stands for "not known": None, NaN, NaT or pandas' NA."""
    # pandas' NA can neither be compared nor imported without pandas: its name comes first.
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, Number | np.generic) and bool(value != value)  # noqa: PLR0124 (NaN)


def brief(value: object, most: int = 60) -> str:
    """Write a value for a message, a long one by its beginning."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def label_array(
    labels: Any, name: str = "y", n_rows: int | None = None, *, hint: str = ""
) -> NDArray[Any]:
    """Return any container of labels as an array, whose entries are not looked at yet.

    Parameters
    ----------
    labels : array-like of shape (n_samples,) or (n_samples, 1)
        As in `check_labels`; some may be missing.
    name : str, default="y"
        What the caller names them.
    n_rows : int, default=None
        How many there have to be.
    hint : str, default=""
        What else to say of a matrix, which may be the probabilities.

    Returns
    -------
    ndarray of shape (n_samples,)
        Objects where the types may differ.

    Raises
    ------
    InvalidInput
        If it is not a container of labels, or the shape is wrong.
    """
    if labels is None:
        # In the words that scikit-learn's checks of estimators look for.
        raise InvalidInput(
            f"this requires {name} to be passed, but the target {name} is None", name
        )
    array = _as_array(labels, name)
    if array.ndim == 0:  # a bare text, a set, a number
        raise InvalidInput(
            f"{name}={brief(labels)}: must be a list or array of labels, not a "
            f"{type(labels).__name__}",
            name,
            value=labels,
        )
    if array.ndim != 1 and array.shape[1:] != (1,):
        if not hint and array.ndim == 2 and array.dtype.kind == "f":
            hint = "labels and probabilities may be swapped"
        raise InvalidInput(
            f"{name} must hold one label per row, shape (n_samples,) as 1d array, got shape "
            f"{array.shape}{hint and f'; {hint}'}",
            name,
            value=array.shape,
        )
    if array.dtype.kind == "c":
        value = array.ravel().tolist()[0]
        raise InvalidInput(
            f"Complex data not supported: {name} must hold labels, but row 0 is {value!r}",
            name,
            0,
            value,
        )
    array = np.asarray(column_or_1d(array, warn=True))
    if array.size == 0:
        raise InvalidInput(f"{name} is empty: at least one label is needed", name, value=labels)
    if n_rows is not None and array.size != n_rows:
        raise InvalidInput(
            f"{name} has {array.size} labels for {n_rows} rows: one per row is needed",
            name,
            value=array.size,
        )
    return array


def _as_array(labels: Any, name: str) -> NDArray[Any]:
    dtype = getattr(labels, "dtype", None)
    if isinstance(labels, np.ma.MaskedArray):
        labels = labels.tolist()  # None where masked
    elif hasattr(labels, "column_names") and hasattr(labels, "itercolumns"):  # pyarrow's table
        columns = [column.to_pylist() for column in labels.itercolumns()]
        return np.array(columns, dtype=object).T
    elif hasattr(labels, "to_pylist"):  # pyarrow
        labels = labels.to_pylist()
    elif isinstance(dtype, np.dtype) and dtype.kind in "biufU":
        return np.asarray(labels)
    elif hasattr(labels, "to_list"):  # pandas and polars: nullable types become plain ones
        # pandas 2.2 has deprecated the to_list of a Categorical; polars has no tolist.
        labels = getattr(labels, "tolist", labels.to_list)()
    try:
        array = np.asarray(labels)
        # numpy turns [1, "a"] into texts and [True, 2] into numbers silently.
        if isinstance(labels, list | tuple) and array.ndim == 1:
            return np.array(labels, dtype=object)
    except ValueError as error:
        raise InvalidInput(
            f"{name} must hold one label per row, got entries of different lengths", name
        ) from error
    return array.astype(object) if array.dtype.kind == "T" else array


def missing_rows(array: NDArray[Any]) -> NDArray[np.intp]:
    """Return the positions without a label."""
    if array.dtype.kind in "biuUS":
        return np.zeros(0, dtype=np.intp)
    if array.dtype.kind in "fmM":
        return np.flatnonzero(np.isnan(array))
    items = array.tolist()
    if all(issubclass(kind, str | Integral) for kind in set(map(type, items))):
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero([is_missing(item) for item in items])


def of_one_type(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return labels that are all there as texts, booleans or numbers."""
    if array.dtype.kind == "O":
        items = array.tolist()
        kinds = {kind: _kind(kind) for kind in set(map(type, items))}
        if len(set(kinds.values())) > 1:
            first = kinds[type(items[0])]
            row = next(i for i, item in enumerate(items) if kinds[type(item)] != first)
            raise InvalidInput(
                f"{name} mixes labels of several types: {first} in row 0 and "
                f"{kinds[type(items[row])]} in row {row} ({brief(items[row])}); use one, for "
                "example strings only",
                name,
                row,
                items[row],
            )
        types = {"string": str, "boolean": np.bool_, "number": None}
        if (kind := kinds[type(items[0])]) in types:
            array = _typed(items, types[kind])
        if array.dtype.kind == "f" and all(issubclass(kind, Integral) for kind in kinds):
            array = np.array(items, dtype=object)  # integers that only a float could hold
    if array.dtype.kind == "f" and np.isinf(array).any():
        row = int(np.isinf(array).argmax())
        raise InvalidInput(
            f"Input {name} contains infinity, in row {row}: a label must be finite",
            name,
            row,
            array[row].item(),
        )
    if array.dtype.kind not in "biufU":
        items = array.tolist()
        for row, value in enumerate(items):
            if isinstance(value, Integral) and not -(2**63) <= int(value) < 2**63:
                raise InvalidInput(
                    f"{name} holds an integer of more than 64 bits in row {row}, "
                    f"{brief(value)}: convert the labels to strings",
                    name,
                    row,
                    value,
                )
        value = items[0]
        raise InvalidInput(
            f"{name} must hold strings, integers, booleans or floats, but row 0 is {brief(value)} "
            f"({type(value).__name__}): convert the labels, for example to strings",
            name,
            0,
            value,
        )
    return array


def _typed(items: list[Any], dtype: Any) -> NDArray[Any]:
    try:
        return np.array(items, dtype=dtype)
    except OverflowError:  # an integer that not even a float can hold
        return np.array(items, dtype=object)


def _kind(kind: type) -> str:
    if issubclass(kind, str):
        return "string"
    if issubclass(kind, bool | np.bool_):
        return "boolean"
    return "number" if issubclass(kind, Real) else kind.__name__
