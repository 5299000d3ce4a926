"""Numbers in every container, one or two-dimensional, and whose columns they are."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.label_arrays import is_missing
from skllm_calib.log_proba.labels import shown

__all__ = [
    "Table",
    "column_names",
    "column_order",
    "labels_of_names",
    "named_class",
    "read_table",
    "warn_by_position",
]

# What the command line calls its columns, once more for each time it ran over the same file.
_PREFIX = re.compile(r"(?:predicted_)*proba_(?=.)", re.DOTALL)
# Names that number the columns.
_COUNTED = re.compile(r"(\D*)\d+")


class Table(NamedTuple):
    """Numbers as float64, NaN where one is missing, and what else their container tells.

    Attributes
    ----------
    values : ndarray of shape (n,) or (n, K)
        May be the caller's own array: nobody may write to it.
    names : list or None
        Names of the columns of a frame; of a Series its own name. None for arrays and lists.
    precision : float
        Machine epsilon of the coarsest floats among the columns; 0.0 for integers and lists.
    """

    values: NDArray[np.float64]
    names: list[Any] | None
    precision: float


def read_table(data: Any, name: str, *, hint: str = "") -> Table:
    """Read numbers from a list, array, Series, frame (pandas, polars) or Arrow table.

    Parameters
    ----------
    data : array-like of shape (n,) or (n, K)
        Numbers; missing ones (None, NaN, NA) are read as NaN.
    name : str
        What the caller names them.
    hint : str, default=""
        What else to say where it does not hold numbers.

    Returns
    -------
    Table

    Raises
    ------
    InvalidInput
        If an entry is not a number, or the rows have different lengths.
    """
    if data is None:
        raise InvalidInput(f"{name} is None: must be a table of numbers", name)
    if hasattr(data, "column_names") and hasattr(data, "to_pandas"):  # pyarrow's table
        data = data.to_pandas()
    elif hasattr(data, "to_pylist"):  # pyarrow's array
        data = data.to_pylist()
    names = column_names(data)
    if names is None and isinstance(getattr(data, "name", None), str):
        names = [data.name]
    if hasattr(data, "dtypes") and hasattr(data, "iloc"):  # pandas
        return _from_pandas(data, names, name, hint)
    try:
        raw = np.asarray(data.filled(np.nan) if _is_masked_floats(data) else data)
    except ValueError as error:
        raise InvalidInput(
            f"{name} must be a table, got rows of different lengths{hint and f'; {hint}'}", name
        ) from error
    if raw.dtype.kind in "US" and isinstance(data, list | tuple):
        raw = np.array(data, dtype=object)  # numpy turns [0.5, "x"] into texts silently
    if raw.dtype.kind in "mM":
        raise InvalidInput(f"{name} must hold numbers, got {raw.dtype}", name)
    if raw.dtype.kind not in "biuf":
        return Table(_numbers(raw, name, hint), names, 0.0)
    precision = float(np.finfo(raw.dtype).eps) if raw.dtype.kind == "f" else 0.0
    return Table(np.asarray(raw, dtype=np.float64), names, precision)


def column_names(data: Any) -> list[Any] | None:
    """Return the names of the columns of a frame or Arrow table; None for anything else."""
    names = getattr(data, "column_names", None)  # of pyarrow, whose columns are no names
    if names is None:
        names = getattr(data, "columns", None)
    return None if names is None else list(names)


def _from_pandas(data: Any, names: list[Any] | None, name: str, hint: str) -> Table:
    dtypes = list(data.dtypes) if data.ndim == 2 else [data.dtype]
    # The numpy type behind nullable, Arrow-backed and sparse columns.
    plain = [getattr(d, "numpy_dtype", getattr(d, "subtype", d)) for d in dtypes]
    if not all(isinstance(d, np.dtype) and d.kind in "biuf" for d in plain):
        numbers = _numbers(data.to_numpy(dtype=object, na_value=np.nan), name, hint)
        return Table(numbers, names, 0.0)
    precision = max((float(np.finfo(d).eps) for d in plain if d.kind == "f"), default=0.0)
    if all(isinstance(d, np.dtype) for d in dtypes):
        values = np.asarray(data, dtype=np.float64)  # without a copy where there is nothing to do
    else:
        values = data.to_numpy(dtype=np.float64, na_value=np.nan)
    return Table(values, names, precision)


def _is_masked_floats(data: Any) -> bool:
    return isinstance(data, np.ma.MaskedArray) and data.dtype.kind == "f"


def _numbers(raw: NDArray[Any], name: str, hint: str) -> NDArray[np.float64]:
    """Turn objects into floats; texts are refused also where they look like numbers."""
    flat = raw.ravel().tolist()
    missing = [is_missing(value) for value in flat]
    for at, value in enumerate(flat):
        if not missing[at] and (isinstance(value, str | bytes) or not hasattr(value, "__float__")):
            row = at // max(raw[0].size if raw.ndim > 1 else 1, 1)
            what = repr(value) if len(repr(value)) <= 60 else f"a {type(value).__name__}"
            way_out = "; drop the columns that are not numeric" if raw.ndim == 2 else ""
            raise InvalidInput(
                f"{name} must hold numbers, but row {row} holds {what}{way_out}"
                f"{hint and f'; {hint}'}",
                name,
                row,
                value,
            )
    values = [np.nan if gone else value for value, gone in zip(flat, missing, strict=True)]
    return np.array(values, dtype=np.float64).reshape(raw.shape)


def column_order(
    names: Sequence[Any] | None, classes: Sequence[Any], name: str
) -> list[int] | None:
    """Return which column holds each class if the columns are named by the classes.

    A column is named by a class if its name is the label, the label as text ("1" for 1), or that
    text after ``proba_``, as the command line writes it. If all columns are, they are taken by
    name; if none is, by position; a mixture is an error. The names 0, 1, 2, ... in this order are
    those that pandas and polars give to columns without names: they say nothing.

    Parameters
    ----------
    names : sequence or None
        Names of the columns.
    classes : sequence
        The classes, sorted.
    name : str
        What the caller names the table.

    Returns
    -------
    list of int, or None
        Position of the column of each class; None to take them by position.

    Raises
    ------
    InvalidInput
        If some names are labels and others are not, or a label is named twice.

    Examples
    --------
    >>> from skllm_calib.log_proba.tables import column_order
    >>> column_order(["proba_spam", "proba_ham"], ["ham", "spam"], "proba")
    [1, 0]
    >>> column_order(["p1", "p2"], ["ham", "spam"], "proba") is None
    True
    """
    if names is None or _is_default(names):
        return None
    table = _by_name(classes)
    found = [_class_of(one, table) for one in names]
    if all(code is None for code in found):
        return None
    strange = [one for one, code in zip(names, found, strict=True) if code is None]
    if strange:
        raise InvalidInput(
            f"{name} has the column {strange[0]!r}, which is not a label of {shown(classes)}, "
            "although other columns are: name every column by its label, or none",
            name,
            value=strange[0],
        )
    if len(set(found)) < len(found):
        raise InvalidInput(
            f"{name} has more than one column for a label: {shown(list(names))}", name, value=names
        )
    if len(found) < len(classes):
        lost = next(one for code, one in enumerate(classes) if code not in found)
        raise InvalidInput(f"{name} has no column for the label {lost!r}", name, value=lost)
    return [found.index(code) for code in range(len(classes))]


def named_class(names: Sequence[Any] | None, classes: Sequence[Any]) -> int | None:
    """Return the number of the class that a Series of probabilities is named by, if it is."""
    if names is None or len(names) != 1 or _is_default(names):
        return None
    return _class_of(names[0], _by_name(classes))


def labels_of_names(names: Sequence[Any] | None, among: Sequence[Any] = ()) -> list[Any] | None:
    """Return the labels that the columns of a frame are named by, where no classes are given.

    Parameters
    ----------
    names : sequence or None
        Names of the columns.
    among : sequence, default=()
        Labels that are known to occur: all of them have to be names of columns.

    Returns
    -------
    list or None
        Labels in the order of the columns, of the type of those that occur; None if the names say
        nothing.
    """
    if names is None or _is_default(names) or not all(map(_may_be_label, names)):
        return None
    labels: list[Any] = [_bare(one) if isinstance(one, str) else one for one in names]
    if among and type(among[0]) is int:
        if not all(re.fullmatch(r"-?\d+(\.0)?", str(label)) for label in labels):
            return None
        labels = [int(float(label)) for label in labels]
    if len({type(label) for label in labels}) > 1 or len(set(labels)) < len(labels):
        return None
    return labels if set(among) <= set(labels) else None


def warn_by_position(names: Sequence[Any] | None, classes: Sequence[Any], name: str) -> None:
    """Warn of columns with names that mean something, none of them a label.

    Names that only count ("0", "p1", "col_2") mean nothing, and arrays have none.
    """
    if names is None or not all(isinstance(one, str | tuple) for one in names):
        return
    parts = [_COUNTED.fullmatch(str(one)) for one in names]
    if all(parts) and len({part[1] for part in parts if part}) == 1:
        return
    warnings.warn(
        f"{name} has the columns {shown(list(names))}, of which none is named by a label of "
        f"{shown(classes)}: they are taken by position, in this order of the labels. Name them by "
        "the labels, or pass an array.",
        UserWarning,
        stacklevel=2,
    )


def _may_be_label(name: object) -> bool:
    return isinstance(name, str | int | float) and name == name  # noqa: PLR0124 (NaN)


def _bare(name: str) -> str:
    """Return the label that a column is named by."""
    return _PREFIX.sub("", name.strip(), count=1)


def _is_default(names: Sequence[Any]) -> bool:
    """Tell whether these are names that a library gave: 0, 1, ... or column_0, column_1, ..."""
    texts = [str(one) for one in names]
    return any(
        texts == [f"{start}{number}" for number in range(len(texts))] for start in ("", "column_")
    )


def _by_name(classes: Sequence[Any]) -> dict[Any, int]:
    """Return the class that each name stands for."""
    table: dict[Any, int] = {}
    for code, label in enumerate(classes):
        table[label] = table[str(label)] = table[str(label).strip()] = code
        if isinstance(label, float) and label.is_integer():
            table[str(int(label))] = code
    return table


def _class_of(name: Any, table: dict[Any, int]) -> int | None:
    if name in table or not isinstance(name, str):
        return table.get(name)
    # A label may consist of blanks.
    forms = (name.strip(), _PREFIX.sub("", name, count=1), _bare(name))
    return next((table[form] for form in forms if form in table), None)
