"""From a row of probabilities to a label, an action and a reason: by thresholds or by costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from skllm_calib.decisions.rows import Codes, Floats, top_label

__all__ = ["ACCEPT", "ACTIONS", "REJECT", "REVIEW", "CostDecider", "Decider", "ThresholdDecider"]

ACTIONS = ACCEPT, REVIEW, REJECT = "accept", "review", "reject"
_UNSCORED = "no probabilities: the row was not scored"


class Decider(Protocol):
    """What a fitted policy does with rows; those of NaN are reviewed."""

    @property
    def thresholds(self) -> Floats | None:
        """Lowest probability at which each class is accepted; None if thresholds do not decide."""

    def pick(self, proba: Floats) -> Codes:
        """Return the class that acceptance would give each row."""

    def act(self, proba: Floats) -> NDArray[np.str_]:
        """Return the action of each row."""

    def reasons(self, proba: Floats, classes: NDArray[Any]) -> list[str]:
        """Return the reason of each action in words."""

    def describe(self, classes: NDArray[Any]) -> list[str]:
        """Return the rule in words, in one or more lines."""


@dataclass(frozen=True)
class ThresholdDecider:
    """Accept rows sure enough for their class; reject those below the floor."""

    thresholds: Floats
    floor: float | None
    per_class: bool

    def pick(self, proba: Floats) -> Codes:
        """Return the class that acceptance would give each row."""
        return top_label(proba)[1]

    def act(self, proba: Floats) -> NDArray[np.str_]:
        """Return the action of each row."""
        stated, label = top_label(proba)
        accepted = (stated >= self.thresholds[label]) & (stated >= 0)
        rejected = (stated < (self.floor or 0)) & (stated >= 0)
        return np.where(rejected, REJECT, np.where(accepted, ACCEPT, REVIEW))

    def reasons(self, proba: Floats, classes: NDArray[Any]) -> list[str]:
        """Return the reason of each action in words."""
        stated, label = top_label(proba)
        uncertified = "its precision could not" if self.per_class else "nothing could"
        names, said = classes.tolist(), []
        rows = zip(stated.tolist(), label.tolist(), self.act(proba).tolist(), strict=True)
        for confidence, code, action in rows:
            threshold = self.thresholds[code]
            if confidence < 0:
                said.append(_UNSCORED)
            elif action == REJECT:
                floor = _compared(confidence, self.floor or 0)
                said.append(f"{floor}: below the rejection threshold")
            elif np.isinf(threshold):
                no_row = f"no probability of {names[code]!r} is accepted"
                said.append(f"{no_row}: {uncertified} be certified")
            else:
                said.append(_compared(confidence, threshold))
        return said

    def describe(self, classes: NDArray[Any]) -> list[str]:
        """Return the rule in words, in one or more lines."""
        if np.isinf(self.thresholds).all():
            return ["Accept nothing."]
        if not self.per_class:
            at = f"{self.thresholds[0]:.4g}"
            return [f"Accept a row when its largest probability is at least {at}."]
        named = zip(classes.tolist(), self.thresholds.tolist(), strict=True)
        return [
            "Accept a row when the probability of its predicted class is at least",
            *(f"  {name}: {at:.4g}" for name, at in named if np.isfinite(at)),
        ]


@dataclass(frozen=True)
class CostDecider:
    """Take the action of lowest expected cost; of equal ones, acceptance first."""

    costs: Floats
    review_cost: float
    reject_cost: float | None
    thresholds: ClassVar[None] = None

    def expected(self, proba: Floats) -> Floats:
        """Return the expected costs (n, 3) of accepting, reviewing and rejecting."""
        accept = (proba @ self.costs).min(axis=1)
        fixed = [self.review_cost, np.inf if self.reject_cost is None else self.reject_cost]
        return np.column_stack([accept, np.tile(fixed, (accept.size, 1))])

    def pick(self, proba: Floats) -> Codes:
        """Return the class that acceptance would give each row."""
        scored = np.where(np.isnan(proba), 0.0, proba)
        return np.asarray((scored @ self.costs).argmin(axis=1))

    def act(self, proba: Floats) -> NDArray[np.str_]:
        """Return the action of each row."""
        expected = self.expected(proba)
        best = np.array(ACTIONS)[np.nan_to_num(expected).argmin(axis=1)]
        return np.where(np.isnan(expected[:, 0]), REVIEW, best)

    def reasons(self, proba: Floats, classes: NDArray[Any]) -> list[str]:
        """Return the reason of each action in words."""
        said = []
        for accept, review, reject in self.expected(proba).tolist():
            text = f"expected cost: accept {accept:.4g}, review {review:.4g}"
            text += "" if np.isinf(reject) else f", reject {reject:.4g}"
            said.append(_UNSCORED if np.isnan(accept) else text)
        return said

    def describe(self, classes: NDArray[Any]) -> list[str]:
        """Return the rule in words."""
        actions = ", ".join(ACTIONS[: 2 if self.reject_cost is None else 3])
        return [f"Take the action of lowest expected cost ({actions})."]

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
