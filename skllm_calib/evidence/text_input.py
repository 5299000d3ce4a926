"""X in all its forms: texts, tables and rows of numbers become named text fields.

A row is a dict from field name to text. A plain text has the one field "text"; a row of a table
has one field per column, for templates that name them, and "text" with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.label_arrays import is_missing
from skllm_calib.utils.tables.cells import unpaired

__all__ = ["TextRows", "read_texts"]


@dataclass(frozen=True)
class TextRows:
    """Rows ready for a template.

    Attributes
    ----------
    fields : sequence of dict
        For each row its texts by field name; empty where the row cannot be used.
    problems : dict of int to str
        What is wrong with a row, by its position.
    columns : tuple of str
        Names of the columns of a table; empty for plain texts.
    """

    fields: Sequence[dict[str, str]]
    problems: dict[int, str]
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.fields)

    @property
    def texts(self) -> list[str]:
        """The whole text of each row; empty where the row cannot be used."""
        return [fields.get("text", "") for fields in self.fields]


class _PlainTexts(Sequence[dict[str, str]]):
    """Rows of the one field "text": a dict takes more memory than most texts, so each is made."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, i: Any) -> Any:
        return {"text": self._texts[i]} if self._texts[i] else {}


def read_texts(X: Any, estimator: Any, *, reset: bool, allow_missing: bool) -> TextRows:
    """Read X, of any container, as rows.

    Parameters
    ----------
    X : array-like of shape (n_samples,) or (n_samples, n_features)
        Texts, or a table (array, DataFrame of any library, list of dict).
    estimator : estimator
        Gets ``n_features_in_`` and ``feature_names_in_`` for tables, as in scikit-learn.
    reset : bool
        Whether this is ``fit``, which sets them, or later, where they are checked.
    allow_missing : bool
        Whether cells may be NaN or None (their rows are then listed as problems).

    Returns
    -------
    TextRows

    Raises
    ------
    TypeError, ValueError
        If `X` cannot be read as rows.
    """
    if isinstance(X, str | bytes):
        raise InvalidInput(
            "Iterable over raw text documents expected, string object received. "
            "Wrap a single text in a list: [text]",
            "X",
            value=X,
        )
    if isinstance(X, list | tuple) and X and all(isinstance(row, dict) for row in X):
        return _from_dicts(X, estimator, reset=reset)
    if (texts := _as_texts(X)) is not None:
        if not texts:
            # scikit-learn's own words, so that its tools recognise the error
            raise InvalidInput(
                "Found array with 0 sample(s) while a minimum of 1 is required.", "X"
            )
        return _from_texts(texts)
    return _from_table(X, estimator, reset=reset, allow_missing=allow_missing)


def _as_texts(X: Any) -> list[Any] | None:
    """Return the items of a one-dimensional X that holds texts, else None."""
    if hasattr(X, "to_pylist") and not hasattr(X, "column_names"):  # pyarrow (Chunked)Array
        items = X.to_pylist()
    elif hasattr(X, "columns") or hasattr(X, "column_names"):  # a table of any library
        return None
    elif hasattr(X, "to_list") and getattr(X, "ndim", 1) == 1:  # pandas or polars Series
        items = X.to_list()
    elif isinstance(X, np.ndarray) and X.ndim == 1:
        items = X.tolist()
    elif isinstance(X, list | tuple):
        items = list(X)
    else:
        return None
    is_text = any(isinstance(item, str | bytes) for item in items)
    # Also a column without any text is one of texts, and an empty one.
    return items if is_text or all(_cell(item) is None for item in items) else None


def _from_texts(items: Sequence[Any]) -> TextRows:
    texts: list[str] = []
    problems: dict[int, str] = {}
    for i, item in enumerate(items):
        text = _cell(item)
        if text is None:
            problems[i] = f"row {i} is missing ({item!r})"
        elif not text.strip():
            problems[i] = f"row {i} is an empty text"
        elif unpaired(text):
            problems[i] = f"row {i} contains an unpaired surrogate, which is no character"
        texts.append("" if i in problems else text or "")
    return TextRows(_PlainTexts(texts), problems)


def _from_dicts(rows: Sequence[dict[Any, Any]], estimator: Any, *, reset: bool) -> TextRows:
    # The columns seen in fit, in their order: what a row says must not depend on its neighbours.
    columns = () if reset else tuple(getattr(estimator, "feature_names_in_", ()))
    if not columns:
        columns = tuple(dict.fromkeys(str(name) for row in rows for name in row))
    if reset:
        estimator.feature_names_in_ = np.asarray(columns, dtype=object)
        estimator.n_features_in_ = len(columns)
    values = [[{str(k): v for k, v in row.items()}.get(c) for c in columns] for row in rows]
    return _table_rows(columns, values)


def _from_table(X: Any, estimator: Any, *, reset: bool, allow_missing: bool) -> TextRows:
    columns = _columns(X)
    if columns is not None:  # a table of a library
        validate_data(estimator, X, skip_check_array=True, reset=reset)
        values = list(zip(*columns.values(), strict=True))
        if not values:
            raise InvalidInput(
                "Found array with 0 sample(s) while a minimum of 1 is required.", "X"
            )
        # Only names that are all texts count, as in scikit-learn: a table with columns 0, 1, 2 is
        # to mean the same as the array that it holds.
        named = all(isinstance(name, str) for name in columns)
        return _table_rows(tuple(columns) if named else _numbered(len(columns)), values)
    if isinstance(X, np.ndarray) and X.dtype.kind == "T":  # scikit-learn cannot take these yet
        X = X.astype(object)
    checked = validate_data(
        estimator, X, dtype=None, reset=reset, ensure_all_finite=not allow_missing
    )
    n_columns = checked.shape[1]
    return _table_rows(("text",) if n_columns == 1 else _numbered(n_columns), checked.tolist())


def _columns(X: Any) -> dict[Any, list[Any]] | None:
    """Return the cells of a DataFrame or Table by column; None for anything else.

    Column by column, because an array of the whole would turn 3 into 3.0 as soon as another column
    or another row is not a whole number: what a row says must not depend on its neighbours.
    """
    if hasattr(X, "iloc") and hasattr(X, "columns"):  # pandas
        _check_distinct(list(X.columns))
        return {name: X.iloc[:, j].tolist() for j, name in enumerate(X.columns)}
    if hasattr(X, "get_columns"):  # polars
        return {column.name: column.to_list() for column in X.get_columns()}
    if hasattr(X, "column_names") and hasattr(X, "to_pylist"):  # pyarrow
        _check_distinct(X.column_names)
        return {name: X.column(name).to_pylist() for name in X.column_names}
    return None


def _check_distinct(names: Sequence[Any]) -> None:
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InvalidInput(
            f"two columns of X are named {twice[0]!r}: rename one of them", "X", value=twice[0]
        )


def _numbered(n_columns: int) -> tuple[str, ...]:
    return tuple(f"x{j}" for j in range(n_columns))


def _table_rows(columns: tuple[str, ...], values: Sequence[Sequence[Any]]) -> TextRows:
    fields: list[dict[str, str]] = []
    problems: dict[int, str] = {}
    for i, row in enumerate(values):
        cells = {name: _cell(value) for name, value in zip(columns, row, strict=True)}
        known = {name: cell for name, cell in cells.items() if cell is not None}
        if len(known) < len(cells):
            missing = next(name for name in cells if name not in known)
            problems[i] = f"row {i} has no value in column {missing!r}"
        elif not any(cell.strip() for cell in known.values()):
            problems[i] = f"row {i} is empty in every column"
        elif broken := [name for name, cell in known.items() if unpaired(cell)]:
            where = f"in column {broken[0]!r}"
            problems[i] = f"row {i} contains an unpaired surrogate {where}, which is no character"
        fields.append({} if i in problems else _with_text(known))
    return TextRows(fields, problems, columns)


def _with_text(cells: dict[str, str]) -> dict[str, str]:
    """Add the whole row as the field "text", unless a column has this name."""
    if "text" in cells:
        return cells
    (first, *others) = cells.values()
    whole = "\n".join(f"{name}: {cell}" for name, cell in cells.items())
    return {**cells, "text": whole if others else first}


def _cell(value: Any) -> str | None:
    """Return a cell as text, or None if it is missing (None, NaN, pandas' NA and NaT)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        raise TypeError(f"X holds bytes ({value[:20]!r}), not text: decode them first")
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        # The words of scikit-learn's own tests for estimators that take texts.
        raise TypeError(f"argument must be a string or a number, got {value!r} in X")
    return str(value)
