"""From rows to arrays: the evidence of each row is read as it comes, and no record is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.evidence.asking import Row, RowRecord, ask_each
from skllm_calib.evidence.bound_model import BoundModel
from skllm_calib.evidence.failures import Outcomes
from skllm_calib.log_proba.numerics import log_normalise

__all__ = ["ScoredRows", "log_proba_of_records", "score_rows"]


class ScoredRows(NamedTuple):
    """What a model says of rows.

    Attributes
    ----------
    log_proba : ndarray of shape (n_rows, n_classes)
        Corrected for the label bias where one is known; NaN for rows that failed.
    off_label : ndarray of shape (n_rows,)
        Part of the evidence that fell on no label; NaN for rows that failed.
    outcomes : Outcomes
    """

    log_proba: NDArray[np.float64]
    off_label: NDArray[np.float64]
    outcomes: Outcomes


def score_rows(
    model: BoundModel,
    rows: Iterable[Row],
    n_rows: int,
    *,
    positions: Sequence[int] | None = None,
) -> ScoredRows:
    """Ask about rows.

    Parameters
    ----------
    model : BoundModel
    rows : iterable of Row
    n_rows : int
        How many there are.
    positions : sequence of int or None, default=None
        Position of each row in `X`; None if all rows are there.
    """
    log_proba, off_label = np.full((n_rows, len(model.classes)), np.nan), np.full(n_rows, np.nan)
    outcomes = Outcomes()
    for i, record in ask_each(model, rows, n_rows=n_rows):
        outcomes.add(i if positions is None else positions[i], record)
        if record.evidence is not None:
            log_proba[i], off_label[i] = record.evidence.log_proba, record.evidence.off_label
    return ScoredRows(_corrected(log_proba, model), off_label, outcomes)


def log_proba_of_records(records: Sequence[RowRecord], model: BoundModel) -> NDArray[np.float64]:
    """Return the log-probabilities of rows, corrected for the label bias where one is known.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
        NaN for rows that failed.
    """
    out = np.full((len(records), len(model.classes)), np.nan)
    for i, record in enumerate(records):
        if record.evidence is not None:
            out[i] = record.evidence.log_proba
    return _corrected(out, model)


def _corrected(log_proba: NDArray[np.float64], model: BoundModel) -> NDArray[np.float64]:
    return log_proba if model.label_bias is None else log_normalise(log_proba - model.label_bias)
