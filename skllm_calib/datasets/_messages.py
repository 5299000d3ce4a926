"""Loader of the bundled customer messages."""

from __future__ import annotations

import csv
import io
from importlib import resources
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skllm_calib.exceptions import MissingDependency

__all__ = ["load_messages"]

_PACKAGE = "skllm_calib.datasets"
_TABLE = "messages.csv"
_CARD = "messages.md"


@overload
def load_messages(*, return_X_y: Literal[False] = False, as_frame: bool = False) -> Bunch: ...
@overload
def load_messages(
    *, return_X_y: Literal[True], as_frame: Literal[False] = False
) -> tuple[list[str], NDArray[np.str_]]: ...
@overload
def load_messages(*, return_X_y: Literal[True], as_frame: Literal[True]) -> tuple[Any, Any]: ...
@overload
def load_messages(*, return_X_y: bool, as_frame: bool = False) -> Any: ...
def load_messages(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load the bundled customer messages (classification).

    Short messages to a parcel, customs and web shop service, each labelled ``"negative"`` or
    ``"positive"``. They were written for this project, with the aid of a large language model,
    and not collected from customers. About one row in ten is truly ambiguous.

    =================   ===================
    Classes                               2
    Samples per class   423 (neg) 342 (pos)
    Samples total                       765
    Words per text                   3 - 44
    =================   ===================

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether to return ``data`` and ``target`` as pandas Series, and to add ``frame``. Needs
        pandas.

    Returns
    -------
    messages : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the attributes below, unless ``return_X_y=True``.

        data : list of str, or Series
            The 765 texts. With ``as_frame=True`` a Series named ``text``.
        target : ndarray of str of shape (765,), or Series
            The labels. With ``as_frame=True`` a Series named ``label``.
        target_names : list of str
            The two labels, sorted.
        frame : DataFrame or None
            The columns ``text`` and ``label``; None unless ``as_frame=True``.
        DESCR : str
            The data card: how the rows were made, the label rule and the known limits.
        filename : str
            The name of the file.
        data_module : str
            The package that holds the file.

    (data, target) : tuple if ``return_X_y=True``
        The texts and their labels, in the forms given above.

    Raises
    ------
    skllm_calib.exceptions.MissingDependency
        If ``as_frame=True`` and pandas is not installed.

    Notes
    -----
    The rows are stored shuffled, and loading keeps their order.

    Examples
    --------
    >>> from skllm_calib.datasets import load_messages
    >>> messages = load_messages()
    >>> len(messages.data)
    765
    >>> messages.target_names
    ['negative', 'positive']
    >>> print(messages.data[2], "->", messages.target[2])
    The engraving is spot on and it came with a lovely ribbon. -> positive
    """
    folder = resources.files(_PACKAGE)
    table = io.StringIO(folder.joinpath(_TABLE).read_text(encoding="utf-8"))
    rows = list(csv.DictReader(table, strict=True))
    texts = [row["text"] for row in rows]
    labels = [row["label"] for row in rows]

    data: Any = texts
    target: Any = np.array(labels)
    frame: Any = None
    if as_frame:
        try:
            import pandas as pd  # noqa: PLC0415  (optional dependency)
        except ImportError as error:
            raise MissingDependency(
                "load_messages(as_frame=True) needs pandas; "
                "install it with: pip install 'skllm-calib[tables]'"
            ) from error
        frame = pd.DataFrame({"text": texts, "label": labels})
        data, target = frame["text"], frame["label"]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        target_names=sorted(set(labels)),
        DESCR=folder.joinpath(_CARD).read_text(encoding="utf-8"),
        filename=_TABLE,
        data_module=_PACKAGE,
    )
