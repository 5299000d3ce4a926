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
from skllm_calib.log_proba.validation import check_input, check_proba, two_columns
from skllm_calib.operations.report.asking import RunUsage

__all__ = ["Failure", "Material", "gather"]

Floats = NDArray[np.float64]


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
    classes : ndarray of shape (n_classes,)
        The classes, sorted.
    codes : ndarray of shape (n,)
        Number of the true class of each row.
    proba, before : ndarray of shape (n, n_classes)
        Probabilities, and those before calibration where they are known.
    weight : ndarray of shape (n,) or None
        Weights of the rows.
    ids, texts : list of str
        What to call the rows and what to show of them; no texts, no show.
    failures : list of Failure
        Rows that are in none of the above.
    """

    classes: NDArray[Any]
    codes: NDArray[np.int64]
    proba: Floats
    before: Floats | None
    weight: Floats | None
    ids: list[str]
    texts: list[str] | None
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
        return np.asarray(self.classes[self.codes])

    @property
    def known(self) -> dict[str, Any]:
        """Keyword arguments that every metric takes."""
        return {"labels": self.classes, "sample_weight": self.weight}


def gather(
    y_true: ArrayLike,
    y_proba: ArrayLike,
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
    """Check everything together, and set apart the rows that have no probabilities."""
    truth = np.asarray(y_true)
    proba = _matrix(y_proba, "y_proba", truth.shape)
    earlier = None if before is None else _matrix(before, "before", truth.shape)
    if earlier is not None and earlier.shape != proba.shape:
        raise ValueError(f"before has shape {earlier.shape}, but y_proba has {proba.shape}.")
    names = [str(row) for row in range(len(truth))] if ids is None else [str(one) for one in ids]
    for name, given in (("ids", names), ("texts", texts), ("impact", _by_row(impact))):
        if given is not None and len(given) != len(truth):
            raise ValueError(f"{name} has {len(given)} entries, but y_true has {len(truth)} rows.")

    unscored = np.flatnonzero(np.isnan(proba).any(axis=1)).tolist()
    reasons: dict[int, str] = dict.fromkeys(unscored, "no probabilities")
    reasons |= dict(failures or {})
    keep = np.setdiff1d(np.arange(len(truth)), list(reasons)).astype(np.intp)
    if not keep.size:
        raise ValueError(f"none of the {len(truth)} rows was scored: there is nothing to report.")
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight is not None and weight.shape != truth.shape:
        raise ValueError(f"sample_weight must have shape {truth.shape}, got {weight.shape}.")
    if weight is not None:
        keep = keep[weight[keep] != 0]  # the metrics leave them out, too
    checked = check_input(
        truth[keep],
        proba[keep],
        labels=labels,
        sample_weight=None if weight is None else weight[keep],
    )
    if earlier is not None:
        check_proba(earlier[keep])
    chosen, fitted_here = _policy(policy, checked)
    return Material(
        classes=checked.classes,
        codes=checked.codes,
        proba=checked.proba,
        before=None if earlier is None else earlier[keep],
        weight=None if weight is None else checked.weight,
        ids=[names[row] for row in keep.tolist()],
        texts=None if texts is None else [str(texts[row]) for row in keep.tolist()],
        failures=[
            Failure(names[row], None if texts is None else str(texts[row]), reason)
            for row, reason in sorted(reasons.items())
        ],
        policy=chosen,
        policy_saw_rows=fitted_here or policy_saw_rows,
        risk_matrix=risk_matrix,
        impact=impact if _by_row(impact) is None else np.asarray(impact)[keep],
        **around,
    )


def _matrix(values: ArrayLike, name: str, shape: tuple[int, ...]) -> Floats:
    """Return (n, K) probabilities, NaN where a row failed."""
    if len(shape) != 1:
        raise ValueError(f"y_true must have shape (n_samples,), got {shape}.")
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, got {np.asarray(values).dtype}.") from error
    rows = two_columns(rows) if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) != shape[0]:
        raise ValueError(
            f"{name} must have shape ({shape[0]},) or ({shape[0]}, n_classes), got {rows.shape}."
        )
    return rows


def _by_row(impact: Any) -> Any:
    """Return the impact if it has one entry a row; None for one level or one a class."""
    one_for_all = impact is None or isinstance(impact, str | Mapping) or np.ndim(impact) == 0
    return None if one_for_all else impact


def _policy(policy: ReviewPolicy | None, rows: Any) -> tuple[ReviewPolicy | None, bool]:
    """Return a fitted policy, and whether it was fitted on these very rows."""
    if policy is None:
        return None, False
    try:
        check_is_fitted(policy)
    except NotFittedError:
        given = clone(policy).set_params(on_not_certifiable="review")
        truth = rows.classes[rows.codes]
        return given.fit(truth, rows.proba, rows.weight, classes=rows.classes), True
    if policy.classes_.tolist() != rows.classes.tolist():
        raise ValueError(
            f"the policy was fitted for the classes {policy.classes_.tolist()}, but these rows are "
            f"of {rows.classes.tolist()}."
        )
    return policy, False
