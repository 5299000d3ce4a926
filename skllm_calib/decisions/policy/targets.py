"""From the parameters of a policy to the rule that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from skllm_calib.decisions.rules import (
    DecisionRule,
    ExpectedCost,
    ReviewBudget,
    TargetPrecision,
)
from skllm_calib.exceptions import InvalidInput

__all__ = ["resolve_rule"]

_TARGETS = ("target_precision", "max_error", "max_reviews", "costs", "rule")
# Which targets a further parameter goes with.
_BELONGS_TO = {
    "review_cost": ("costs",),
    "reject_cost": ("costs",),
    "reject_below": ("target_precision", "max_error", "max_reviews"),
    "per_class": ("target_precision", "max_error"),
}


def resolve_rule(parameters: Mapping[str, Any]) -> DecisionRule:
    """Return the rule that the parameters of a policy describe, checked."""
    target = _target(parameters)
    floor = parameters["reject_below"]
    rule: DecisionRule
    if target == "rule":
        rule = clone(parameters["rule"])
    elif target == "costs":
        rule = ExpectedCost(
            parameters["costs"],
            parameters["review_cost"],
            reject_cost=parameters["reject_cost"],
            random_state=parameters["random_state"],
        )
    elif target == "max_reviews":
        rule = ReviewBudget(parameters["max_reviews"], reject_below=floor)
    else:
        precision = parameters["target_precision"]
        if target == "max_error":
            precision = 1 - parameters["max_error"]
        rule = TargetPrecision(
            0.95 if precision is None else precision,
            per_class=parameters["per_class"],
            reject_below=floor,
        )
    rule.check()
    return rule


def _target(parameters: Mapping[str, Any]) -> str:
    """Return which target is given, and refuse what does not go with it."""
    given = [name for name in _TARGETS if parameters[name] is not None]
    if len(given) > 1:
        raise InvalidInput(
            f"{given[0]} and {given[1]} are two targets: give one of them.", given[1]
        )
    target = given[0] if given else "target_precision"
    if target == "costs" and parameters["review_cost"] is None:
        raise InvalidInput("costs needs review_cost, the price of a review.", "review_cost")
    for name, where in _BELONGS_TO.items():
        value = parameters[name]
        if value is not None and value is not False and target not in where:
            raise InvalidInput(
                f"{name}={value!r} means nothing together with {target}: it belongs to "
                f"{' and '.join(where)}.",
                name,
                value=value,
            )
    return target
