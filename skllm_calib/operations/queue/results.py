"""What the methods of a queue return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Added", "LabelledRows", "QueueStatistics"]


class Added(NamedTuple):
    """Numbers of rows by what `add` did; ``n_asked`` of the new ones are to be reviewed."""

    n_new: int
    n_unchanged: int
    n_replaced: int
    n_asked: int


class LabelledRows(NamedTuple):
    """Settled rows, in the order they were added, to fit a calibrator on.

    Attributes
    ----------
    ids, texts : list of str
        Ids and texts of the rows.
    y : ndarray of shape (n,)
        Labels of the reviewers.
    proba : ndarray of shape (n, n_classes)
        Probabilities of the row when it was added.
    sample_weight : ndarray of shape (n,)
        One over the probability with which the row was chosen for review, at least 1.
    """

    ids: list[str]
    texts: list[str]
    y: NDArray[Any]
    proba: NDArray[np.float64]
    sample_weight: NDArray[np.float64]


@dataclass(frozen=True)
class QueueStatistics:
    """Progress of the reviews.

    Attributes
    ----------
    n_rows, n_accepted, n_review, n_rejected : int
        Rows in the queue: all, and by action.
    n_waiting, n_done, n_disputed : int
        Rows for reviewers, which are those to review and the audit sample: without a label, with
        one, and with labels that contradict each other.
    n_audit_waiting, n_audit_done : int
        Those of them that belong to the audit sample.
    by_class : dict of label to (int, int)
        For every proposed label: done rows, and those of them where reviewers kept the proposal.
    agreement : float
        Share of the done rows with a proposal where reviewers kept it, in [0, 1]; NaN before the
        first. Most of these rows are doubtful: for the accepted ones see
        `ReviewQueue.accepted_error`.
    """

    n_rows: int
    n_accepted: int
    n_review: int
    n_rejected: int
    n_waiting: int
    n_done: int
    n_disputed: int
    n_audit_waiting: int
    n_audit_done: int
    by_class: dict[Any, tuple[int, int]]
    agreement: float
