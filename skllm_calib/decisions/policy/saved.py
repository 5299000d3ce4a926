"""A fitted policy as JSON, and back: every float to its last bit, and nothing that runs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skllm_calib.decisions.policy import values
from skllm_calib.decisions.policy.fits import Fitted, PolicyEvidence
from skllm_calib.decisions.policy.fixed_sequence import Promise
from skllm_calib.decisions.policy.rules import (
    ACCEPT,
    OF_ITS_CLASS,
    REJECT,
    REVIEW,
    Rule,
    ThresholdRule,
)
from skllm_calib.exceptions import NotCertifiableError
from skllm_calib.utils.files import write_text

if TYPE_CHECKING:
    from skllm_calib.decisions.policy.policy import ReviewPolicy

__all__ = ["SavedAsJson"]

_FORMAT = "skllm_calib.ReviewPolicy"
_VERSION = 1
_KEYS = {
    "format", "version", "parameters", "classes", "evidence", "certified_precision",
    "certified_review_share", "expected_cost", "expected_cost_interval", "shares", "n_rows",
    "n_labels", "error",
}  # fmt: skip
_ACTIONS = (ACCEPT, REVIEW, REJECT)
_EVIDENCE: dict[str, Any] = {
    "threshold": values.number,
    "n_rows": values.count,
    "n_accepted": values.count,
    "n_errors": values.optional(values.count),
    "precision_lower_bound": values.optional(values.number),
    "confidence": values.number,
    "n_more": values.optional(values.count),
}


class SavedAsJson:
    """The methods that keep a policy."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted policy as plain values, ready for JSON.

        Returns
        -------
        content : dict
            What :meth:`from_dict` makes an equal policy of. Numbers that JSON does not have, such
            as the threshold of a class that is never accepted, are the texts "inf" and "nan".
        """
        check_is_fitted(self)
        return _content(self)  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Make a policy of what :meth:`to_dict` returned.

        Parameters
        ----------
        content : dict
            The content, also after a round trip through JSON. It is data: nothing in it is run. The
            key "about" is left to remarks of yours and is not read.

        Returns
        -------
        policy : ReviewPolicy
            A policy that decides, explains and promises the same, float for float.

        Raises
        ------
        ValueError
            If it is something else, of another version, or contradicts itself.
        """
        return _policy(cls, content)  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON.

        Returns
        -------
        text : str
            Strict JSON, without the NaN and Infinity that some readers refuse.
        """
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the policy that :meth:`to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            JSON of :meth:`to_json`.

        Returns
        -------
        policy : ReviewPolicy
            An equal policy.

        Raises
        ------
        ValueError
            If it is something else, of another version, or contradicts itself.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise values.wrong(f"it is not JSON ({error})") from None
        return cls.from_dict(content)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json` to a file, which is replaced in one step or not at all.

        Parameters
        ----------
        path : str or path-like
            The file.
        """
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        policy : ReviewPolicy
            An equal policy.
        """
        return cls.from_json(Path(path).read_bytes())


def _content(policy: ReviewPolicy) -> dict[str, Any]:
    rule = _rule(policy, policy.classes_, policy.evidence_)
    if not (_alike(rule, policy._rule) and _kept(policy)):
        raise ValueError(
            "the parameters of this policy are not those that it was fitted with: fit it again "
            "before you save it."
        )
    error = policy._error
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "parameters": {name: values.plain(value) for name, value in policy.get_params().items()},
        "classes": values.classes_to_dict(policy.classes_),
        "evidence": [
            {name: values.plain(value) for name, value in asdict(found).items()}
            for found in policy.evidence_
        ],
        "certified_precision": policy.certified_precision_,
        "certified_review_share": policy.certified_review_share_,
        "expected_cost": policy.expected_cost_,
        "expected_cost_interval": values.plain(policy.expected_cost_interval_),
        "shares": dict(policy.shares_),
        "n_rows": policy._n_rows,
        "n_labels": policy.n_labels_,
        "error": None if error is None else {"message": str(error), "n_more": error.n_more},
    }


def _policy(cls: Any, content: Any) -> Any:
    if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
        raise values.wrong(f"it has no format={_FORMAT!r}")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"The policy has version {content.get('version')!r}, and this release of skllm-calib "
            f"reads version {_VERSION}: update the package, or fit a new policy."
        )
    values.check_keys(content, _KEYS | content.keys() & {"about"}, "the policy")
    policy = _with_parameters(cls, content["parameters"])
    classes = values.classes_from_dict(content["classes"])
    evidence = _evidence(policy, content["evidence"], classes)
    try:
        rule = _rule(policy, classes, evidence)
    except (TypeError, ValueError) as error:  # of costs
        raise values.wrong(str(error)) from None

    def read(name: str, reader: Any) -> Any:
        return values.optional(reader)(content[name], name)

    fitted = Fitted(
        rule,
        rule.thresholds if isinstance(rule, ThresholdRule) else None,
        evidence,
        read("certified_precision", values.number),
        read("certified_review_share", values.number),
        read("expected_cost", values.number),
        read("expected_cost_interval", values.pair),
        read("error", _error),
    )
    values.check_keys(content["shares"], _ACTIONS, "shares")
    shares = {name: values.number(content["shares"][name], "a share") for name in _ACTIONS}
    n_rows, n_labels = (values.count(content[name], name) for name in ("n_rows", "n_labels"))
    if n_labels not in (0, n_rows):
        raise values.wrong(f"n_labels is {n_labels}, neither 0 nor all of the {n_rows} rows")
    policy._keep(classes, fitted, shares, n_rows, n_labels)
    if not _kept(policy):
        raise values.wrong("it promises something else than its parameters and its evidence say")
    return policy


def _with_parameters(cls: type[ReviewPolicy], given: Any) -> ReviewPolicy:
    values.check_keys(given, cls().get_params(), "parameters")
    budget = given["max_reviews"]
    budget = tuple(budget) if isinstance(budget, list) else budget
    policy = cls(**{**given, "max_reviews": budget})
    try:
        policy._validate_params()
        if policy._kind() == "budget":
            policy._budget()
    except (TypeError, ValueError) as error:
        raise values.wrong(str(error).rstrip(".")) from None
    return policy


def _rule(
    policy: ReviewPolicy, classes: NDArray[Any], evidence: tuple[PolicyEvidence, ...]
) -> Rule:
    """Make the rule that the parameters and the evidence stand for."""
    if policy._kind() == "cost":
        return policy._cost_rule(classes)
    thresholds = np.array([found.threshold for found in evidence])
    if policy.per_class:
        return ThresholdRule(thresholds, policy.reject_below, OF_ITS_CLASS)
    return ThresholdRule(np.full(classes.size, thresholds[0]), policy.reject_below)


def _alike(one: Rule, other: Rule) -> bool:
    """Compare two rules, which hold arrays."""
    if type(one) is not type(other):
        return False
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(np.array_equal(mine, its) for mine, its in pairs)


def _kept(policy: ReviewPolicy) -> bool:
    """Tell whether target and confidence are those of the fit, and borne out by the evidence."""
    # Classes share the risk, so each has more confidence than all of them together.
    lowest = policy.confidence - 1e-9
    highest = 1.0 if policy.per_class else policy.confidence + 1e-9
    if not all(lowest <= found.confidence <= highest for found in policy.evidence_):
        return False
    if policy._kind() != "precision":
        return True
    target, stated = policy._target(), policy.certified_precision_
    certified = [found for found in policy.evidence_ if math.isfinite(found.threshold)]
    return stated == (target if certified else None) and all(
        Promise(target, found.confidence).holds(found.n_accepted, found.n_errors or 0)
        for found in certified
    )


def _evidence(
    policy: ReviewPolicy, content: Any, classes: NDArray[Any]
) -> tuple[PolicyEvidence, ...]:
    names = classes.tolist() if policy.per_class else [None]
    if not isinstance(content, list) or len(content) != len(names):
        raise values.wrong(f"evidence is {content!r}, where a list of {len(names)} must be")
    out = []
    for name, found in zip(names, content, strict=True):
        where = "evidence" if name is None else f"evidence of {name!r}"
        values.check_keys(found, {"predicted", *_EVIDENCE}, where)
        if found["predicted"] != name:
            raise values.wrong(f"predicted is {found['predicted']!r}, {where}")
        parts = {key: read(found[key], f"{key}, {where},") for key, read in _EVIDENCE.items()}
        by_cost = policy._kind() == "cost"
        if by_cost != math.isnan(parts["threshold"]) or parts["threshold"] < 0:
            raise values.wrong(f"threshold is {parts['threshold']}, {where}")
        out.append(PolicyEvidence(name, **parts))
    return tuple(out)


def _error(content: Any, where: str) -> NotCertifiableError:
    values.check_keys(content, ("message", "n_more"), where)
    n_more = values.optional(values.count)(content["n_more"], "n_more of the error")
    return NotCertifiableError(values.text(content["message"], "message of the error"), n_more)
