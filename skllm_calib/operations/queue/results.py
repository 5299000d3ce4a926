"""What the methods of a queue return."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.utils.layout import aligned
from skllm_calib.utils.tables import Table

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

    def to_table(self, classes: NDArray[Any]) -> Table:
        """Return the rows as a table with a column ``proba_<label>`` for each of the classes."""
        names = [f"proba_{label}" for label in classes.tolist()]
        rows = [
            {"id": name, "text": text, "label": str(label), "weight": weight}
            | dict(zip(names, proba, strict=True))
            for name, text, label, proba, weight in zip(
                self.ids,
                self.texts,
                self.y.tolist(),
                self.proba.tolist(),
                self.sample_weight.tolist(),
                strict=True,
            )
        ]
        return Table(["id", "text", "label", "weight", *names], rows, own=["weight", *names])


@dataclass(frozen=True)
class QueueStatistics:
    """Progress of the reviews; ``str(statistics)`` is a table.

    Attributes
    ----------
    audit_share : float
        Share of the accepted rows to come that are drawn for the audit.
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

    audit_share: float
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

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values; None where there is no agreement yet."""
        by_class = [
            {"label": label, "n_done": n_done, "n_left_as_proposed": n_kept}
            for label, (n_done, n_kept) in self.by_class.items()
        ]
        agreement = None if math.isnan(self.agreement) else self.agreement
        return asdict(self) | {"by_class": by_class, "agreement": agreement}

    def __str__(self) -> str:
        rows = [
            [name, f"{n:,}"]
            for name, n in (
                ("rows", self.n_rows),
                ("waiting", self.n_waiting),
                ("done", self.n_done),
                ("disputed", self.n_disputed),
            )
        ]
        remarks = [
            f"{self.n_accepted:,} accepted, {self.n_review:,} to review, "
            f"{self.n_rejected:,} rejected",
            f"{self.n_audit_waiting:,} of them accepted, for the audit "
            f"({100 * self.audit_share:.3g}% of new ones)",
            "" if math.isnan(self.agreement) else f"{self.agreement:.0%} left as proposed",
            "",
        ]
        table = aligned(rows, remarks)
        if not self.n_done:
            return table
        by_class = [[str(k), f"{n:,}", f"{kept:,}"] for k, (n, kept) in self.by_class.items()]
        return f"{table}\n\n{aligned([['proposed', 'done', 'left as proposed'], *by_class])}"
