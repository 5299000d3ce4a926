"""A fitted policy in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skllm_calib.decisions.policy.policy import ReviewPolicy

__all__ = ["in_words"]


def in_words(policy: ReviewPolicy) -> str:
    """Return the summary, a line for each of: rule, rows, evidence, promise."""
    lines = [*_rule(policy), _rows(policy), *_errors(policy), *_promise(policy)]
    return "\n".join(lines)


def _rule(policy: ReviewPolicy) -> list[str]:
    if policy.thresholds_ is None:
        actions = "accept, review" + ("" if policy.reject_cost is None else ", reject")
        return [f"Take the action of lowest expected cost ({actions})."]
    lines = []
    if np.isinf(policy.thresholds_).all():
        lines.append("Accept nothing.")
    elif not policy.per_class:
        lines.append(
            f"Accept a row when its largest probability is at least {policy.thresholds_[0]:.4g}."
        )
    else:
        lines.append("Accept a row when the probability of its predicted class is at least")
        named = zip(policy.classes_.tolist(), policy.thresholds_.tolist(), strict=True)
        lines += [f"  {name}: {at:.4g}" for name, at in named if np.isfinite(at)]
    for name, n_more in policy.uncertified_.items():
        lack = "more labels are not known to help"
        lack = lack if n_more is None else f"about {n_more} more labels needed"
        lines.append(f"Never accept {name!r}: not certifiable, {lack}.")
    if policy.reject_below is not None:
        floor = f"{policy.reject_below:.4g}"
        lines.append(f"Reject a row when its largest probability is below {floor}.")
    return lines


def _rows(policy: ReviewPolicy) -> str:
    n_rows = policy._n_rows
    accept, review, reject = (
        f"{round(share * n_rows)} ({share:.1%})" for share in policy.shares_.values()
    )
    kind = "labelled rows" if policy.n_labels_ else "rows"
    line = f"Of the {n_rows} {kind}, {accept} are accepted, {review} go to review"
    return line + (f", {reject} are rejected." if policy.shares_["reject"] else ".")


def _errors(policy: ReviewPolicy) -> list[str]:
    if not policy.n_labels_ or not policy.coverage_:
        return []
    n_errors = sum(found.n_errors or 0 for found in policy.evidence_)
    return [f"Of the accepted rows, {n_errors} are wrong."]


def _promise(policy: ReviewPolicy) -> list[str]:
    if policy._error is not None:
        return [f"No promise: {policy._error}"]
    confidence = _percent(policy.confidence, down=True)
    lines = []
    if isinstance(policy.max_reviews, tuple | list):
        most, of = policy.max_reviews
        lines.append(
            f"Promise: at most {most} reviews among {of} new rows, in {confidence} of the days on "
            "average."
        )
    elif policy.certified_review_share_ is not None:
        share = _percent(policy.certified_review_share_)
        lines.append(
            f"Promise: at most {share} of new rows go to review, with {confidence} confidence."
        )
    if policy.expected_cost_ is not None:
        lines.append(_cost(policy))
    if policy.certified_precision_ is not None:
        of_each = "accepted rows of every class are" if policy.per_class else "accepted rows are"
        at_least = _percent(policy.certified_precision_, down=True)
        lines.append(
            f"Promise: {of_each} right at least {at_least} of the time, with {confidence} "
            "confidence."
        )
    return lines


def _cost(policy: ReviewPolicy) -> str:
    line = f"Expected cost: {policy.expected_cost_:.4g} a row"
    if policy.expected_cost_interval_ is None:
        return f"{line}, if the probabilities are right; no labels to check it."
    low, high = policy.expected_cost_interval_
    confidence = _percent(policy.confidence, down=True)
    return f"{line}, between {low:.4g} and {high:.4g} with {confidence} confidence."


def _percent(share: float, *, down: bool = False) -> str:
    """Return a share as a percentage, rounded to the side that promises less."""
    tenths = np.floor(share * 1000 + 1e-9) if down else np.ceil(share * 1000 - 1e-9)
    return f"{tenths / 10:.4g}%"
