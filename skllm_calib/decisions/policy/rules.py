"""From a row of probabilities to a label, an action and a reason: two fitted rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skllm_calib.decisions.policy.rows import Codes, Floats, top_label

__all__ = ["ACCEPT", "OF_ITS_CLASS", "REJECT", "REVIEW", "CostRule", "Rule", "ThresholdRule"]

ACCEPT, REVIEW, REJECT = "accept", "review", "reject"
# Why nothing is accepted: of the class of a row, or of any.
OF_ITS_CLASS = "its precision could not be certified"
_OF_ANY = "nothing could be certified"
_UNSCORED = "no probabilities: the row was not scored"
Actions = NDArray[np.str_]


class Rule(Protocol):
    """What a fitted policy does with rows; those of NaN are reviewed."""

    def pick(self, proba: Floats) -> Codes:
        """Return the class that acceptance would give each row."""

    def act(self, proba: Floats) -> Actions:
        """Return the action of each row."""

    def reasons(self, proba: Floats, classes: NDArray[Any]) -> list[str]:
        """Return the reason of each action in words."""


@dataclass(frozen=True)
class ThresholdRule:
    """Accept rows sure enough for their class; turn away those below the floor."""

    thresholds: Floats
    floor: float | None
    uncertified: str = _OF_ANY

    def pick(self, proba: Floats) -> Codes:
        """Return the class that acceptance would give each row."""
        return top_label(proba)[1]

    def act(self, proba: Floats) -> Actions:
        """Return the action of each row."""
        stated, label = top_label(proba)
        accepted = (stated >= self.thresholds[label]) & (stated >= 0)
        turned_away = (stated < (self.floor or 0)) & (stated >= 0)
        return np.where(turned_away, REJECT, np.where(accepted, ACCEPT, REVIEW))

    def reasons(self, proba: Floats, classes: NDArray[Any]) -> list[str]:
        """Return the reason of each action in words."""
        stated, label = top_label(proba)
        names, said = classes.tolist(), []
        rows = zip(stated.tolist(), label.tolist(), self.act(proba).tolist(), strict=True)
        for confidence, code, action in rows:
            threshold = self.thresholds[code]
            if confidence < 0:
                said.append(_UNSCORED)
            elif action == REJECT:
                said.append(f"{_compared(confidence, self.floor or 0)}: too unsure for a review")
            elif np.isinf(threshold):
                said.append(f"no probability of {names[code]!r} is accepted: {self.uncertified}")
            else:
                said.append(_compared(confidence, threshold))
        return said


@dataclass(frozen=True)
class CostRule:
    """Take the action of lowest expected cost; of equal ones, acceptance first."""

    costs: Floats
    review_cost: float
    reject_cost: float | None

    def expected(self, proba: Floats) -> Floats:
        """Return the expected costs (n, 3) of accepting, reviewing and rejecting."""
        accept = (proba @ self.costs).min(axis=1)
        fixed = [self.review_cost, np.inf if self.reject_cost is None else self.reject_cost]
        return np.column_stack([accept, np.tile(fixed, (accept.size, 1))])

    def pick(self, proba: Floats) -> Codes:
        """Return the class that acceptance would give each row."""
        scored = np.where(np.isnan(proba), 0.0, proba)
        return np.asarray((scored @ self.costs).argmin(axis=1))

    def act(self, proba: Floats) -> Actions:
        """Return the action of each row."""
        expected = self.expected(proba)
        best = np.array([ACCEPT, REVIEW, REJECT])[np.nan_to_num(expected).argmin(axis=1)]
        return np.where(np.isnan(expected[:, 0]), REVIEW, best)

    def reasons(self, proba: Floats, classes: NDArray[Any]) -> list[str]:
        """Return the reason of each action in words."""
        said = []
        for accept, review, reject in self.expected(proba).tolist():
            text = f"expected cost: accept {accept:.4g}, review {review:.4g}"
            text += "" if np.isinf(reject) else f", reject {reject:.4g}"
            said.append(_UNSCORED if np.isnan(accept) else text)
        return said

    def incurred(self, proba: Floats, codes: Codes) -> Floats:
        """Return what the action costs for each row of known label."""
        action, label = self.act(proba), self.pick(proba)
        reject = 0.0 if self.reject_cost is None else self.reject_cost
        fixed = np.where(action == REVIEW, self.review_cost, reject)
        return np.where(action == ACCEPT, self.costs[codes, label], fixed)

    def range(self) -> tuple[float, float]:
        """Return the least and the greatest cost that a row can have."""
        fixed = [self.review_cost] + ([] if self.reject_cost is None else [self.reject_cost])
        return min(*fixed, float(self.costs.min())), max(*fixed, float(self.costs.max()))


def _compared(confidence: float, threshold: float) -> str:
    """Show two probabilities with as many digits as it takes to tell them apart."""
    sign = ">=" if confidence >= threshold else "<"
    for digits in range(3, 17):
        left, right = f"{confidence:.{digits}g}", f"{threshold:.{digits}g}"
        if left != right or confidence == threshold:
            break
    return f"probability {left} {sign} {right}"
