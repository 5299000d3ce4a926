"""What a report is made of: judged rows in one checked form, and what is known around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skllm_calib.decisions import ReviewPolicy, RiskMatrix
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.validation import (
    Checked,
    Names,
    check_input,
    check_proba,
    check_weight,
    check_weighted_labels,
)
from skllm_calib.operations.report.scored_rows import RunUsage

__all__ = ["Failure", "Material", "gather"]

Floats = NDArray[np.float64]

_NAMES = Names("y", "proba", "labels")


@dataclass(frozen=True)
class Failure:
    """A row that could not be scored, and why."""

    id: str
    text: str | None
    reason: str


@dataclass(frozen=True)
class Material:
    """The rows that were scored, and what surrounds them.

    Attributes
    ----------
    rows : Checked
        Classes, and the true class, the probabilities and the weight of each row. Metrics,
        policies and displays take it for labels and probabilities, and do not check it again.
    before : Checked or None
        The same with the probabilities before calibration, where they are known.
    weighted : bool
        Whether weights were given.
    ids : list of str
        Names of the rows.
    texts : list of str or None
        Texts of the rows; None for one that is not shown.
    failures : list of Failure
        Rows that are in none of the above.
    """

    rows: Checked
    before: Checked | None
    weighted: bool
    ids: list[str]
    texts: list[str | None]
    failures: list[Failure]
    card: Mapping[str, Any] | None = None
    usage: RunUsage | None = None
    policy: ReviewPolicy | None = None
    policy_saw_rows: bool = False
    risk_matrix: RiskMatrix | None = None
    impact: Any = None

    @property
    def truth(self) -> NDArray[Any]:
        """The true label of each row."""
        return np.asarray(self.rows.classes[self.rows.codes])

    @property
    def sides(self) -> list[tuple[str, Checked]]:
        """The rows before calibration, where they are known, and after it."""
        before = [] if self.before is None else [("before", self.before)]
        return [*before, ("after", self.rows)]


def gather(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    before: ArrayLike | None,
    labels: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ids: Sequence[Any] | None,
    texts: Sequence[str] | None,
    failures: Mapping[int, str] | None,
    policy: ReviewPolicy | None,
    policy_saw_rows: bool,
    risk_matrix: RiskMatrix | None,
    impact: Any,
    **around: Any,
) -> Material:
    """Check everything together, once, and set apart the rows that have no probabilities."""
    if sample_weight is not None:
        y, _ = check_weighted_labels(y, sample_weight)
    given = check_input(y, proba, labels=labels, names=_NAMES, allow_unscored=True)
    n_rows = len(given.codes)
    weight = check_weight(sample_weight, n_rows)
    impact_by_row = _by_row(impact)
    for name, values in (("ids", ids), ("texts", texts), ("impact", impact_by_row)):
        _check_length(name, values, n_rows)
    names = [str(name) for name in (range(n_rows) if ids is None else ids)]
    shown = [None] * n_rows if texts is None else [str(text) for text in texts]
    reasons = _reasons(given.proba, failures)
    scored = np.setdiff1d(np.arange(n_rows), list(reasons)).astype(np.intp)
    if not scored.size:
        raise InvalidInput(f"None of the {n_rows} rows has probabilities to report on.", "proba")
    keep = scored[weight[scored] > 0]
    rows = Checked(given.proba[keep], given.codes[keep], given.classes, weight[keep])
    fitted, fitted_here = _fitted_policy(policy, rows)
    return Material(
        rows=rows,
        before=_earlier(before, rows, keep, n_rows),
        weighted=sample_weight is not None,
        ids=[names[row] for row in keep.tolist()],
        texts=[shown[row] for row in keep.tolist()],
        failures=[
            Failure(names[row], shown[row], reason) for row, reason in sorted(reasons.items())
        ],
        policy=fitted,
        policy_saw_rows=fitted_here or policy_saw_rows,
        risk_matrix=risk_matrix,
        impact=impact if impact_by_row is None else np.asarray(impact_by_row)[keep],
        **around,
    )


def _check_length(name: str, values: Any, n_rows: int) -> None:
    if values is not None and len(values) != n_rows:
        raise InvalidInput(
            f"{name} has {len(values)} entries, but y has {n_rows} rows", name, value=len(values)
        )


def _reasons(proba: Floats, failures: Mapping[int, str] | None) -> dict[int, str]:
    """Return why rows have no probabilities, by position."""
    unknown = [row for row in failures or {} if not 0 <= row < len(proba)]
    if unknown:
        raise InvalidInput(
            f"failures names row {unknown[0]}, but there are {len(proba)} rows, counted from 0.",
            "failures",
            value=unknown[0],
        )
    unscored = np.flatnonzero(np.isnan(proba[:, 0])).tolist()
    return dict.fromkeys(unscored, "no probabilities") | dict(failures or {})


def _earlier(
    before: ArrayLike | None, rows: Checked, keep: NDArray[np.intp], n_rows: int
) -> Checked | None:
    """Return the rows with their probabilities before calibration, if they are known."""
    if before is None:
        return None
    proba = check_proba(before, "before", classes=rows.classes, allow_unscored=True)
    if len(proba) != n_rows:
        raise InvalidInput(
            f"before has {len(proba)} rows, but proba has {n_rows}.", "before", value=len(proba)
        )
    missing = keep[np.isnan(proba[keep, 0])]
    if missing.size:
        row = int(missing[0])
        raise InvalidInput(
            f"before has no probabilities in row {row}, but proba has: pass before=None if they "
            "are not known.",
            "before",
            row,
        )
    return rows._replace(proba=proba[keep])


def _by_row(impact: Any) -> Any:
    """Return the impact if it has one entry per row; None for one level or one per class."""
    one_for_all = impact is None or isinstance(impact, str | Mapping) or np.ndim(impact) == 0
    return None if one_for_all else impact


def _fitted_policy(policy: ReviewPolicy | None, rows: Checked) -> tuple[ReviewPolicy | None, bool]:
    """Return a fitted policy, and whether it was fitted on these very rows."""
    if policy is None:
        return None, False
    try:
        check_is_fitted(policy)
    except NotFittedError:
        given = clone(policy).set_params(on_not_certifiable="review")
        return given.fit(rows, rows), True
    if policy.classes_.tolist() != rows.classes.tolist():
        raise InvalidInput(
            f"the policy was fitted for the classes {policy.classes_.tolist()}, but these rows are "
            f"of {rows.classes.tolist()}.",
            "policy",
        )
    return policy, False
