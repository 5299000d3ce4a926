"""Class labels: what counts as one, and how it is worded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import column_or_1d

__all__ = ["check_known", "check_labels", "label_wording"]


def check_labels(labels: ArrayLike, name: str, *, keep_all: bool = False) -> NDArray[Any]:
    """Return labels as a one-dimensional array of one type: str, int, float or bool.

    Parameters
    ----------
    labels : array-like of shape (n_labels,)
        Lists, arrays, Series and Categoricals of any library.
    name : str
        What to call them in an error.
    keep_all : bool, default=False
        False returns the different ones, sorted; True one a row, as given.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If a label is missing, or labels are of several types.
    """
    if hasattr(labels, "to_pylist"):  # pyarrow
        labels = labels.to_pylist()
    elif hasattr(labels, "to_list"):  # pandas and polars: nullable types become plain ones
        # pandas 2.2 has deprecated the to_list of a Categorical; polars has no tolist.
        labels = getattr(labels, "tolist", labels.to_list)()
    array = np.asarray(labels)
    if array.dtype.kind == "T":  # numpy's StringDType, which scikit-learn cannot take
        array = array.astype(object)
    if array.ndim == 0:  # a bare text, a set, a number
        raise ValueError(f"{name}={labels!r}: must be a list or array of labels")
    array = column_or_1d(array, warn=True)
    if array.dtype == object or array.dtype.kind == "U":
        array = _one_type(labels, array, name)
    elif array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"Input {name} contains NaN: every row needs a label")
    elif array.dtype.kind == "f" and np.isinf(array).any():
        raise ValueError(
            f"Input {name} contains infinity or a value too large for {array.dtype!r}."
        )
    if array.size == 0:
        raise ValueError(f"{name} is empty: at least one label is needed")
    return array if keep_all else np.unique(array)


def _one_type(labels: Any, array: NDArray[Any], name: str) -> NDArray[Any]:
    # numpy turns [1, "a"] into texts silently; the list itself still tells.
    items = list(labels) if isinstance(labels, list | tuple) else array.tolist()
    for item in items:
        # pandas' NA comes first: it cannot be asked whether it equals itself.
        if item is None or type(item).__name__ == "NAType" or item != item:  # noqa: PLR0124 (NaN)
            raise ValueError(f"Input {name} contains NaN or None: every row needs a label")
    kinds = {
        "text" if isinstance(i, str) else "bool" if isinstance(i, bool | np.bool_) else "number"
        for i in items
        if np.ndim(i) == 0
    }
    if len(kinds) > 1:
        raise ValueError(
            f"{name} mixes labels of several types ({', '.join(sorted(kinds))}): use one, for "
            "example texts only"
        )
    return np.asarray(items) if len(kinds) == 1 else array


def check_known(given: Iterable[Any], labels: Sequence[Any], name: str) -> None:
    """Raise ValueError if `given` has a label that is not among `labels`."""
    strange = [label for label in given if label not in set(labels)]
    if strange:
        raise ValueError(f"{name} has {strange[0]!r}, which is not in classes {list(labels)}")


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
    ValueError
        If a wording is empty, is used twice, or belongs to no label.
    """
    given = label_texts or {}
    check_known(given, labels, "label_texts")
    texts = [str(given.get(label, label)).strip() for label in labels]
    by_text: dict[str, Any] = {}
    for label, text in zip(labels, texts, strict=True):
        if not text:
            raise ValueError(f"the text of label {label!r} is empty: give it one in label_texts")
        if text in by_text:
            raise ValueError(
                f"labels {by_text[text]!r} and {label!r} have the same text {text!r}: the model "
                "could not tell them apart; give them different ones in label_texts"
            )
        by_text[text] = label
    return texts
