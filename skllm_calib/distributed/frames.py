"""The rows of one partition: a pandas DataFrame, and what a classifier says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from skllm_calib.exceptions import InvalidInput
from skllm_calib.operations.predictions import free_names
from skllm_calib.operations.report.scored_rows import answer_rows

__all__ = ["own_columns", "predict_frame"]

_KINDS = {"i": "Int64", "u": "Int64", "b": "boolean"}  # which have a value for "none"
_UNKNOWN = "no probabilities; this classifier does not say why"


def predict_frame(frame: Any, classifier: Any, *, column: str | Sequence[str] = "text") -> Any:
    """Classify the rows of a DataFrame; a row that fails is a row that says why.

    Parameters
    ----------
    frame : pandas.DataFrame
    classifier : estimator
        A fitted classifier, such as :class:`CalibratedLLMClassifier`. Whatever its `on_error`, rows
        that fail do not stop the others.
    column : str or list of str, default="text"
        The column of the texts, or the columns of a table, in the order of ``fit``.

    Returns
    -------
    pandas.DataFrame
        The rows with the columns ``label``, ``probability``, ``proba_LABEL`` for each class and
        ``failure``, as the command line writes them. A name that is taken gets ``predicted_`` in
        front. In rows that failed, only ``failure`` has a value.

    Examples
    --------
    >>> import pandas as pd
    >>> from skllm_calib import LLMClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> backend = TestingBackend({"prize": {"ham": 0.1, "spam": 0.9}}, fail_on=("down",))
    >>> clf = LLMClassifier(backend, classes=["ham", "spam"], cache=None)
    >>> rows = pd.DataFrame({"text": ["Win a prize", "The server is down"]})
    >>> predict_frame(rows, clf)[["text", "label", "probability"]]
                     text label  probability
    0         Win a prize  spam          0.9
    1  The server is down  <NA>          NaN
    """
    import pandas as pd  # noqa: PLC0415

    _check_column(frame, column)
    classes = np.asarray(classifier.classes_)
    proba = np.empty((0, len(classes)))
    failures: dict[int, str] = {}
    if len(frame):
        texts = frame[column] if isinstance(column, str) else frame[list(column)]
        proba, failures = answer_rows(classifier, texts)
    failed = np.asarray(np.isnan(proba).any(axis=1))
    best = np.where(failed[:, None], 0.0, proba).argmax(axis=1)
    cells = [
        [None if bad else classes[k].item() for k, bad in zip(best, failed, strict=True)],
        np.where(failed, np.nan, proba.max(axis=1)),
        *proba.T,
        [failures.get(i, _UNKNOWN) if bad else None for i, bad in enumerate(failed)],
    ]
    own = own_columns(frame.columns, classifier)
    return frame.assign(
        **{
            name: pd.array(values, dtype=kind)
            for (name, kind), values in zip(own.items(), cells, strict=True)
        }
    )


def own_columns(taken: Iterable[str], classifier: Any) -> dict[str, str]:
    """Return the columns that come behind those of a table, each with its type in pandas."""
    classes = np.asarray(classifier.classes_)
    kinds = {
        "label": _KINDS.get(classes.dtype.kind, "string"),
        "probability": "float64",
        **{f"proba_{label}": "float64" for label in classes.tolist()},
        "failure": "string",
    }
    return dict(zip(free_names(taken, kinds), kinds.values(), strict=True))


def _check_column(frame: Any, column: str | Sequence[str]) -> None:
    names = [column] if isinstance(column, str) else list(column)
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise InvalidInput(
            f"column={column!r}: there is no column {missing[0]!r}; the columns are "
            f"{', '.join(map(repr, frame.columns))}",
            "column",
            value=column,
        )
