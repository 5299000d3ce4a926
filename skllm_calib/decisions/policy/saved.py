"""A fitted policy as plain values for JSON, and back: every float to its last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray

from skllm_calib.decisions.policy import json_values as values
from skllm_calib.decisions.policy.fitted import FittedPolicy
from skllm_calib.decisions.rules import RULES, DecisionRule, Findings, PolicyEvidence
from skllm_calib.decisions.rules.deciders import ACTIONS
from skllm_calib.exceptions import InvalidInput, NotCertifiableError

__all__ = ["content_of", "read_fitted", "read_parameters"]

_FORMAT = "skllm_calib.ReviewPolicy"
_VERSION = 1
_KEYS = {
    "format", "version", "parameters", "classes", "evidence", "certified_precision",
    "certified_review_share", "expected_cost", "expected_cost_interval", "shares", "n_rows",
    "n_labels", "error",
}  # fmt: skip
# Left out where there is nothing to say, and in the files of earlier versions.
_OPTIONAL_KEYS = {"about", "promises"}
# The bounds that have a key of their own.
_BOUNDS = {"review_rate": "certified_review_share", "precision": "certified_precision"}
_EVIDENCE: dict[str, Any] = {
    "threshold": values.number,
    "n_rows": values.count,
    "n_accepted": values.count,
    "n_errors": values.optional(values.count),
    "precision_lower_bound": values.optional(values.number),
    "confidence": values.number,
    "n_more": values.optional(values.count),
}


def content_of(
    fitted: FittedPolicy, parameters: Mapping[str, Any], rule: DecisionRule, confidence: float
) -> dict[str, Any]:
    """Return what is saved of a fitted policy, whose parameters now describe `rule`."""
    as_fitted = _rule_content(fitted.rule), fitted.confidence
    if as_fitted != (_rule_content(rule), confidence) or not _borne_out(fitted):
        raise InvalidInput(
            "the parameters of this policy are not those that it was fitted with: fit it again "
            "before you save it.",
            "policy",
        )
    found = fitted.findings
    others = {name: bound for name, bound in found.bounds.items() if name not in _BOUNDS}
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "parameters": {
            name: _rule_content(value) if name == "rule" else values.plain(value)
            for name, value in parameters.items()
            if name != "rule" or value is not None
        },
        "classes": values.classes_to_dict(fitted.classes),
        "evidence": [
            {name: values.plain(value) for name, value in asdict(one).items()}
            for one in found.evidence
        ],
        "certified_precision": found.bounds.get("precision"),
        "certified_review_share": found.bounds.get("review_rate"),
        "expected_cost": found.cost,
        "expected_cost_interval": values.plain(found.cost_interval),
        "shares": dict(fitted.action_rates),
        "n_rows": fitted.n_rows,
        "n_labels": fitted.n_labels,
        "error": None
        if found.error is None
        else {"message": str(found.error), "n_more": found.error.n_more},
    } | ({"promises": others} if others else {})


def _rule_content(rule: DecisionRule) -> dict[str, Any]:
    name = next((key for key, kind in RULES.items() if kind is type(rule)), None)
    if name is None:
        raise InvalidInput(
            f"rule={rule!r} cannot be saved, because its class has no name: add it to "
            "skllm_calib.decisions.RULES.",
            "rule",
            value=rule,
        )
    parameters = {key: values.plain(value) for key, value in rule.get_params().items()}
    return {"name": name, **parameters}


def _borne_out(fitted: FittedPolicy) -> bool:
    found = fitted.findings
    return fitted.rule.bears_out(found.bounds, found.evidence, fitted.confidence)


def read_parameters(content: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a saved policy; `names` are those that a policy has."""
    if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
        raise values.wrong(f"it has no format={_FORMAT!r}")
    if content.get("version") != _VERSION:
        raise InvalidInput(
            f"The policy has version {content.get('version')!r}, and this release of skllm-calib "
            f"reads version {_VERSION}: update the package, or fit a new policy.",
            "text",
            value=content.get("version"),
        )
    values.check_keys(content, _KEYS | content.keys() & _OPTIONAL_KEYS, "the policy")
    given = content["parameters"]
    present = {"rule"} & set(given) if isinstance(given, Mapping) else set()
    values.check_keys(given, names.keys() - {"rule"} | present, "parameters")
    return {
        name: _read_rule(value) if name == "rule" else _with_tuple(value)
        for name, value in given.items()
    }


def _with_tuple(value: Any) -> Any:
    """Make a list of numbers a tuple again, which JSON does not have; a matrix stays as it is."""
    flat = isinstance(value, list) and not any(isinstance(item, list) for item in value)
    return tuple(value) if flat else value


def _read_rule(content: Any) -> DecisionRule:
    name = content.get("name") if isinstance(content, Mapping) else None
    if not isinstance(name, str) or name not in RULES:
        raise values.wrong(f"its rule is {name!r}, not one of {sorted(RULES)}")
    kind = RULES[name]
    values.check_keys(content, {"name", *kind().get_params()}, "rule")
    return kind(**{key: _with_tuple(value) for key, value in content.items() if key != "name"})


def read_fitted(content: Mapping[str, Any], rule: DecisionRule, confidence: float) -> FittedPolicy:
    """Return what a saved policy knows; its parameters describe `rule`."""
    classes = values.classes_from_dict(content["classes"])
    evidence = _read_evidence(rule, content["evidence"], classes)
    decider = rule.decider(classes, evidence)
    for one in evidence:
        if math.isnan(one.threshold) != (decider.thresholds is None) or one.threshold < 0:
            raise values.wrong(f"threshold is {one.threshold} in evidence of {one.predicted!r}")

    def read(name: str, reader: Any) -> Any:
        return values.optional(reader)(content[name], name)

    named = {quantity: read(key, values.number) for quantity, key in _BOUNDS.items()}
    named |= _read_promises(content.get("promises", {}))
    findings = Findings(
        evidence,
        {quantity: bound for quantity, bound in named.items() if bound is not None},
        read("error", _read_error),
        read("expected_cost", values.number),
        read("expected_cost_interval", values.pair),
    )
    values.check_keys(content["shares"], ACTIONS, "shares")
    rates = {
        name: values.number(content["shares"][name], "a fraction of the rows") for name in ACTIONS
    }
    n_rows, n_labels = (values.count(content[name], name) for name in ("n_rows", "n_labels"))
    if n_labels not in (0, n_rows):
        raise values.wrong(f"n_labels is {n_labels}, neither 0 nor all of the {n_rows} rows")
    fitted = FittedPolicy(rule, confidence, classes, findings, rates, n_rows, n_labels)
    if not _borne_out(fitted):
        raise values.wrong(
            "it promises something else than its parameters and its evidence support"
        )
    return fitted


def _read_promises(content: Any) -> dict[str, float]:
    values.check_keys(content, content if isinstance(content, Mapping) else (), "promises")
    return {str(name): values.number(bound, f"promise {name!r}") for name, bound in content.items()}


def _read_evidence(
    rule: DecisionRule, content: Any, classes: NDArray[Any]
) -> tuple[PolicyEvidence, ...]:
    names = classes.tolist() if rule.per_class else [None]
    if not isinstance(content, list) or len(content) != len(names):
        raise values.wrong(f"evidence must be a list of {len(names)}, got {content!r}")
    out = []
    for name, found in zip(names, content, strict=True):
        where = "evidence" if name is None else f"evidence of {name!r}"
        values.check_keys(found, {"predicted", *_EVIDENCE}, where)
        if found["predicted"] != name:
            raise values.wrong(f"predicted is {found['predicted']!r} in {where}")
        parts = {key: read(found[key], f"{key} of {where}") for key, read in _EVIDENCE.items()}
        out.append(PolicyEvidence(name, **parts))
    return tuple(out)


def _read_error(content: Any, where: str) -> NotCertifiableError:
    values.check_keys(content, ("message", "n_more"), where)
    n_more = values.optional(values.count)(content["n_more"], "n_more of the error")
    return NotCertifiableError(values.text(content["message"], "message of the error"), n_more)
