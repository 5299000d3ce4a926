"""Costs of errors, reviews and rejections: the action of lowest expected cost."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval

from skllm_calib.decisions.rows import Floats, Rows
from skllm_calib.decisions.rules.base import DecisionRule, Findings, PolicyEvidence, evidence_of
from skllm_calib.decisions.rules.bounds import mean_interval
from skllm_calib.decisions.rules.deciders import CostDecider
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.tables import column_order

__all__ = ["ExpectedCost"]


class ExpectedCost(DecisionRule):
    """Take the action of lowest expected cost.

    Labels do not shape it; they only tell what it costs.

    Parameters
    ----------
    costs : float or array-like of shape (n_classes, n_classes), default=10.0
        Cost of accepting the predicted class (column) when the true one is the row; gains are
        negative. A number is the cost of every error, a right label being free.
    review_cost : float, default=1.0
        Price of a review, after which the label is right.
    reject_cost : float, default=None
        Price of rejecting a row; None rejects no row.
    random_state : int, default=0
        Seed of the interval of the cost.
    """

    needs_labels: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "costs": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "review_cost": [Interval(Real, None, None, closed="neither")],
        "reject_cost": [None, Interval(Real, None, None, closed="neither")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        costs: float | ArrayLike = 10.0,
        review_cost: float = 1.0,
        *,
        reject_cost: float | None = None,
        random_state: int = 0,
    ) -> None:
        self.costs = costs
        self.review_cost = review_cost
        self.reject_cost = reject_cost
        self.random_state = random_state

    def find(self, rows: Rows, confidence: float) -> Findings:
        """Take the rule as it is, and see what it costs."""
        decider = self.decider(rows.classes)
        evidence = evidence_of(rows, decider, np.nan, confidence)
        if rows.codes is None:
            expected = decider.expected(rows.proba).min(axis=1)
            cost = np.where(np.isnan(expected), self.review_cost, expected).mean()
            return Findings((evidence,), cost=float(cost))
        incurred = decider.incurred(rows.proba, rows.codes)
        interval = mean_interval(incurred, *decider.range(), confidence, self.random_state)
        bound = evidence.precision_lower_bound
        return Findings(
            (evidence,),
            {} if bound is None else {"precision": bound},
            cost=float(incurred.mean()),
            cost_interval=interval,
        )

    def decider(
        self, classes: NDArray[Any], evidence: Sequence[PolicyEvidence] = ()
    ) -> CostDecider:
        """Return what decides by these costs, whatever the evidence."""
        return CostDecider(self._matrix(classes), self.review_cost, self.reject_cost)

    def _matrix(self, classes: NDArray[Any]) -> Floats:
        n_classes = classes.size
        costs = np.asarray(self.costs, dtype=np.float64)
        if costs.ndim == 0:
            return float(costs) * (1 - np.eye(n_classes))
        if costs.shape != (n_classes, n_classes) or not np.isfinite(costs).all():
            raise InvalidInput(
                f"costs must be a number or finite numbers of shape ({n_classes}, {n_classes}), "
                f"true x predicted in the order {classes.tolist()}, got {costs.tolist()}.",
                "costs",
                value=costs.tolist(),
            )
        frame: Any = self.costs
        if hasattr(frame, "iloc"):  # of pandas; it is saved as its numbers alone
            for names in (frame.index, frame.columns):
                order = column_order(list(names), classes.tolist(), "costs")
                if order is not None and order != list(range(n_classes)):
                    raise InvalidInput(
                        f"costs names its rows or columns in the order {list(names)}, but the "
                        f"classes are {classes.tolist()}: pass costs.loc[classes, classes]",
                        "costs",
                        value=list(names),
                    )
        return costs
