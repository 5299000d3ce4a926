"""A budget of reviews: the least sure rows are reviewed, as many as it allows."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skllm_calib.decisions.rows import Rows, top_label
from skllm_calib.decisions.rules.base import DecisionRule, Findings, evidence_of, per_cent
from skllm_calib.decisions.rules.bounds import rank_for_count, rank_for_rate, rate_upper_bound
from skllm_calib.decisions.rules.deciders import REVIEW, ThresholdDecider
from skllm_calib.exceptions import InvalidInput, NotCertifiableError

__all__ = ["ReviewBudget"]


class ReviewBudget(DecisionRule):
    """Review the least sure rows, as many as a budget allows, and accept the others.

    Labels do not shape it; they only tell the precision of accepted rows.

    Parameters
    ----------
    max_reviews : float in (0, 1) or (int, int), default=0.2
        Budget of reviews: a fraction of all rows, or ``(50, 400)`` for 50 of the 400 rows of a day.
        The fraction is kept with the confidence of the policy; the number on so many of the days.
    reject_below : float in (0, 1), default=None
        Rows whose largest probability is below this are rejected, and need no review; None rejects
        no row.
    """

    needs_labels: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_reviews": [Interval(Real, 0, 1, closed="neither"), tuple, list],
        "reject_below": [None, Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        max_reviews: float | Sequence[int] = 0.2,
        *,
        reject_below: float | None = None,
    ) -> None:
        self.max_reviews = max_reviews
        self.reject_below = reject_below

    def check(self) -> None:
        """Raise InvalidInput if a parameter has no meaning."""
        super().check()
        self._limits()

    def _limits(self) -> tuple[float, tuple[int, int] | None]:
        """Return the budget as a fraction, and as N reviews of M rows if it was given so."""
        budget = self.max_reviews
        if isinstance(budget, Real):
            return float(budget), None
        numbers: Any = budget
        if len(numbers) == 2 and all(isinstance(number, Integral) for number in numbers):
            most, of = int(numbers[0]), int(numbers[1])
            if 0 <= most < of:
                return most / of, (most, of)
        raise InvalidInput(
            f"max_reviews={budget!r}: must be a fraction in (0, 1), or (N, M) for N reviews of the "
            "M rows of a day, with integers and 0 <= N < M.",
            "max_reviews",
            value=budget,
        )

    def find(self, rows: Rows, confidence: float) -> Findings:
        """Find the strictest threshold that keeps reviews within the budget."""
        stated, _ = top_label(rows.proba)
        n_rows = stated.size
        # Rejected rows need no review, so they come after the surest.
        rejected = (stated >= 0) & (stated < (self.reject_below or 0))
        order = np.sort(np.where(rejected, np.inf, stated))
        rate, numbers = self._limits()
        if numbers is None:
            rank = rank_for_rate(n_rows, rate, confidence)
        else:
            rank = rank_for_count(n_rows, *numbers, confidence)
        threshold = max(0.0, float(order[rank - 1])) if rank else 0.0
        decider = ThresholdDecider(
            np.full(rows.classes.size, threshold), self.reject_below, per_class=False
        )
        evidence = evidence_of(rows, decider, threshold, confidence)
        n_reviews = int((decider.act(rows.proba) == REVIEW).sum())
        if n_reviews > max(rank - 1, 0):
            error = NotCertifiableError(
                f"{n_reviews} of {n_rows} rows could not be scored and have to be reviewed: that "
                f"alone exceeds the budget of {self._shown()}."
            )
            return Findings((evidence,), error=error)
        # Without a threshold there is nothing to review, now or later.
        bounds = {"review_rate": 0.0}
        if threshold:
            bounds["review_rate"] = rate_upper_bound(n_reviews, n_rows, confidence)
        if evidence.precision_lower_bound is not None:
            bounds["precision"] = evidence.precision_lower_bound
        return Findings((evidence,), bounds)

    def _shown(self) -> str:
        rate, numbers = self._limits()
        return (
            f"{per_cent(rate)} of the rows" if numbers is None else "{} of {} rows".format(*numbers)
        )

    def in_words(self, quantity: str, bound: float, confidence: float) -> str:
        """Say in words what is promised of a quantity."""
        _, numbers = self._limits()
        if quantity == "review_rate" and numbers is not None:
            most, of = numbers
            days = per_cent(confidence, down=True)
            return f"at most {most} reviews among {of} new rows, on {days} of days, on average"
        return super().in_words(quantity, bound, confidence)
