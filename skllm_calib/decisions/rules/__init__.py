"""Decision rules: what may be asked of a policy, each with what it promises.

``RULES`` names the rules that a saved policy may hold. A rule of another package is added to it
before such a policy is read.
"""

from skllm_calib.decisions.rows import Rows, top_label
from skllm_calib.decisions.rules.base import (
    DecisionRule,
    Findings,
    PolicyEvidence,
    Promise,
    evidence_of,
)
from skllm_calib.decisions.rules.bounds import precision_lower_bound, rate_upper_bound
from skllm_calib.decisions.rules.budget import ReviewBudget
from skllm_calib.decisions.rules.cost import ExpectedCost
from skllm_calib.decisions.rules.deciders import ThresholdDecider
from skllm_calib.decisions.rules.precision import TargetPrecision
from skllm_calib.utils.addresses import ClassTable

__all__ = [
    "RULES",
    "DecisionRule",
    "ExpectedCost",
    "Findings",
    "PolicyEvidence",
    "Promise",
    "ReviewBudget",
    "Rows",
    "TargetPrecision",
    "ThresholdDecider",
    "evidence_of",
    "precision_lower_bound",
    "rate_upper_bound",
    "top_label",
]

_HERE = "skllm_calib.decisions.rules"

RULES: ClassTable[DecisionRule] = ClassTable(
    {
        "target_precision": f"{_HERE}.precision:TargetPrecision",
        "review_budget": f"{_HERE}.budget:ReviewBudget",
        "expected_cost": f"{_HERE}.cost:ExpectedCost",
    }
)
