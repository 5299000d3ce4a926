"""What a fitted policy knows: shared by the policy, its summary and its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skllm_calib.decisions.rows import Rows
from skllm_calib.decisions.rules import DecisionRule, Findings, Promise
from skllm_calib.decisions.rules.base import per_cent
from skllm_calib.decisions.rules.deciders import ACCEPT, ACTIONS, Decider

__all__ = ["FittedPolicy", "fit_rule"]


@dataclass(frozen=True)
class FittedPolicy:
    """A rule, what it found out about rows, and what it did with them.

    ``action_rates`` is the fraction of the ``n_rows`` fitted rows for each action; ``n_labels`` is
    zero without labels.
    """

    rule: DecisionRule
    confidence: float
    classes: NDArray[Any]
    findings: Findings
    action_rates: Mapping[str, float]
    n_rows: int
    n_labels: int

    @property
    def decider(self) -> Decider:
        """What gives rows their label, action and reason."""
        return self.rule.decider(self.classes, self.findings.evidence)

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What is promised of rows to come."""
        return tuple(
            Promise(
                quantity,
                bound,
                self.confidence,
                self.rule.in_words(quantity, bound, self.confidence),
            )
            for quantity, bound in self.findings.bounds.items()
        )

    @property
    def uncertified(self) -> dict[Any, int | None]:
        """Class -> about how many further labels it needs, of those never accepted."""
        return {
            found.predicted: found.n_more
            for found in self.findings.evidence
            if found.predicted is not None and np.isinf(found.threshold)
        }

    def summary(self) -> str:
        """Say in words what the policy does, what it rests on, and what it promises."""
        lines = [*self._rule_in_words(), self._rows_in_words()]
        evidence = self.findings.evidence
        if self.n_labels and self.action_rates[ACCEPT]:
            n_errors = sum(found.n_errors or 0 for found in evidence)
            lines.append(f"Of the accepted rows, {n_errors} are wrong.")
        if self.findings.error is not None:
            lines.append(f"No promise: {self.findings.error}")
        if self.findings.cost is not None:
            lines.append(self._cost_in_words(self.findings.cost))
        lines += [f"Promise: {promise.text}." for promise in self.promises]
        return "\n".join(lines)

    def _rule_in_words(self) -> list[str]:
        lines = self.decider.describe(self.classes)
        for name, n_more in self.uncertified.items():
            lack = "more labels are not known to help"
            lack = lack if n_more is None else f"about {n_more} more labels needed"
            lines.append(f"Never accept {name!r}: not certifiable, {lack}.")
        if self.rule.reject_below is not None:
            floor = f"{self.rule.reject_below:.4g}"
            lines.append(f"Reject a row when its largest probability is below {floor}.")
        return lines

    def _rows_in_words(self) -> str:
        accept, review, reject = (
            f"{round(rate * self.n_rows)} ({rate:.1%})" for rate in self.action_rates.values()
        )
        kind = "labelled rows" if self.n_labels else "rows"
        line = f"Of the {self.n_rows} {kind}, {accept} are accepted, {review} go to review"
        return line + (f", {reject} are rejected." if self.action_rates["reject"] else ".")

    def _cost_in_words(self, cost: float) -> str:
        line = f"Expected cost: {cost:.4g} per row"
        if self.findings.cost_interval is None:
            return f"{line}, if the probabilities are right; there are no labels to check it."
        low, high = self.findings.cost_interval
        confidence = per_cent(self.confidence, down=True)
        return f"{line}, between {low:.4g} and {high:.4g} with {confidence} confidence."


def fit_rule(rule: DecisionRule, rows: Rows, confidence: float) -> FittedPolicy:
    """Let a rule look at rows, and see what it does with them."""
    findings = rule.find(rows, confidence)
    actions = rule.decider(rows.classes, findings.evidence).act(rows.proba)
    return FittedPolicy(
        rule=rule,
        confidence=confidence,
        classes=rows.classes,
        findings=findings,
        action_rates={name: float((actions == name).mean()) for name in ACTIONS},
        n_rows=len(rows.proba),
        n_labels=0 if rows.codes is None else len(rows.codes),
    )
