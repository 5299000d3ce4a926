"""How each kind of target makes a rule out of rows, and what can be said of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skllm_calib.decisions.policy.bounds import (
    mean_interval,
    rank_for_count,
    rank_for_share,
    share_upper_bound,
)
from skllm_calib.decisions.policy.fixed_sequence import (
    Profile,
    Promise,
    loosest,
    not_certifiable,
    precision_lower_bound,
)
from skllm_calib.decisions.policy.rows import Floats, Rows, top_label
from skllm_calib.decisions.policy.rules import (
    ACCEPT,
    OF_ITS_CLASS,
    REVIEW,
    CostRule,
    Rule,
    ThresholdRule,
)
from skllm_calib.exceptions import NotCertifiableError

__all__ = ["Fitted", "PolicyEvidence", "by_budget", "by_class", "by_cost", "by_precision"]


@dataclass(frozen=True)
class PolicyEvidence:
    """What the labelled rows say about one threshold of a :class:`ReviewPolicy`.

    Attributes
    ----------
    predicted : object
        The predicted class that the threshold is for, or None if it is for all.
    threshold : float
        Rows are accepted from this probability on; infinite if none are, NaN by cost, where no
        threshold decides.
    n_rows, n_accepted : int
        Labelled rows in question, and those of them that are accepted.
    n_errors : int or None
        Wrong rows among the accepted; None without labels.
    precision_lower_bound : float or None
        Clopper-Pearson lower bound of the precision of accepted rows in [0, 1]; None without labels
        or accepted rows. Where the threshold was searched for, only the target is promised: a bound
        that happens to be higher is not.
    confidence : float
        Confidence of the promise that this threshold has a part in.
    n_more : int or None
        About how many further labels it would take, where nothing could be certified; None if they
        are not known to help, or not needed.
    """

    predicted: Any
    threshold: float
    n_rows: int
    n_accepted: int
    n_errors: int | None
    precision_lower_bound: float | None
    confidence: float
    n_more: int | None = None


class Fitted(NamedTuple):
    """A rule and what is known of it; with an error if the target could not be certified."""

    rule: Rule
    thresholds: Floats | None
    evidence: tuple[PolicyEvidence, ...]
    certified_precision: float | None = None
    certified_review_share: float | None = None
    cost: float | None = None
    cost_interval: tuple[float, float] | None = None
    error: NotCertifiableError | None = None


def by_precision(rows: Rows, target: float, confidence: float, floor: float | None) -> Fitted:
    """Find one threshold for all rows, with fixed-sequence tests."""
    stated, label = top_label(rows.proba)
    in_question = stated >= (floor or 0)
    promise = Promise(target, confidence)
    found, error = _search(None, stated, label != rows.codes, in_question, promise)
    thresholds = np.full(rows.classes.size, found.threshold)
    rule = ThresholdRule(thresholds, floor)
    return Fitted(rule, thresholds, (found,), None if error else target, error=error)


def by_class(rows: Rows, target: float, confidence: float, floor: float | None) -> Fitted:
    """Find a threshold for each predicted class; together they break the promise rarely enough."""
    stated, label = top_label(rows.proba)
    wrong = label != rows.codes
    members = [(label == code) & (stated >= (floor or 0)) for code in range(rows.classes.size)]
    counts = np.array([member.sum() for member in members])
    in_play = _worth_a_test(counts, target, 1 - confidence)
    evidence, errors = [], []
    for code, name in enumerate(rows.classes.tolist()):
        sharers = in_play.sum() + (not in_play[code])
        promise = Promise(target, 1 - (1 - confidence) / sharers)
        # Those not in play are too few to pass; the search only says how many labels they lack.
        found, error = _search(name, stated, wrong, members[code], promise)
        evidence.append(found)
        errors.append(error)
    thresholds = np.array([found.threshold for found in evidence])
    rule = ThresholdRule(thresholds, floor, OF_ITS_CLASS)
    if np.isfinite(thresholds).any():
        return Fitted(rule, thresholds, tuple(evidence), target)
    return Fitted(rule, thresholds, tuple(evidence), error=_for_no_class(evidence, errors))


def _worth_a_test(counts: NDArray[Any], target: float, risk: float) -> NDArray[np.bool_]:
    """Choose the classes that share the risk: those predicted often enough to pass at all.

    Predictions choose, not labels, so the choice costs nothing; and a rare class that could not
    pass anyway takes nothing from the others.
    """
    in_play = counts > 0
    while in_play.any():
        needed = Promise(target, 1 - risk / in_play.sum()).fewest[0]
        enough = in_play & (counts >= needed)
        if enough.sum() == in_play.sum():
            break
        # One at a time, the rarest first: with fewer sharers, the next may have enough.
        in_play[np.flatnonzero(in_play)[counts[in_play].argmin()]] = False
    return in_play


def _search(
    predicted: Any,
    stated: Floats,
    wrong: NDArray[np.bool_],
    in_question: NDArray[np.bool_],
    promise: Promise,
) -> tuple[PolicyEvidence, NotCertifiableError | None]:
    profile = Profile(stated[in_question], wrong[in_question])
    n_accepted = loosest(profile, promise)
    if n_accepted is None:
        error = not_certifiable(profile, promise, stated.size)
        found = PolicyEvidence(
            predicted, np.inf, profile.n_rows, 0, 0, None, promise.confidence, error.n_more
        )
        return found, error
    n_errors = profile.errors(n_accepted)
    bound = precision_lower_bound(n_accepted, n_errors, promise.confidence)
    threshold = profile.threshold(n_accepted)
    return (
        PolicyEvidence(
            predicted,
            threshold,
            profile.n_rows,
            n_accepted,
            n_errors,
            bound,
            promise.confidence,
        ),
        None,
    )


def _for_no_class(
    evidence: list[PolicyEvidence], errors: list[NotCertifiableError | None]
) -> NotCertifiableError:
    """Report the class that is nearest to its certificate."""
    known = [
        (error.n_more if error.n_more is not None else np.inf, -found.n_rows, number)
        for number, (found, error) in enumerate(zip(evidence, errors, strict=True))
        if error is not None
    ]
    nearest = min(known)[-1]
    error = errors[nearest]
    assert error is not None
    return NotCertifiableError(
        f"no predicted class can be certified; the nearest is {evidence[nearest].predicted!r}, "
        f"{error}",
        error.n_more,
    )


def by_budget(
    rows: Rows, max_reviews: float | tuple[int, int], confidence: float, floor: float | None
) -> Fitted:
    """Find the strictest threshold that keeps reviews within the budget; labels only report."""
    stated, _ = top_label(rows.proba)
    n_rows = stated.size
    # Rows that are turned away need no review, so they come after the surest.
    order = np.sort(np.where((stated >= 0) & (stated < (floor or 0)), np.inf, stated))
    if isinstance(max_reviews, tuple):
        rank = rank_for_count(n_rows, *max_reviews, confidence)
    else:
        rank = rank_for_share(n_rows, max_reviews, confidence)
    threshold = max(0.0, float(order[rank - 1])) if rank else 0.0
    thresholds = np.full(rows.classes.size, threshold)
    rule = ThresholdRule(thresholds, floor)
    n_reviews = int((rule.act(rows.proba) == REVIEW).sum())
    evidence = _as_it_is(rows, rule, threshold, confidence)
    # Without a threshold there is nothing to review, now or later.
    share = share_upper_bound(n_reviews, n_rows, confidence) if threshold else 0.0
    if n_reviews > max(rank - 1, 0):
        error = NotCertifiableError(
            f"{n_reviews} of {n_rows} rows could not be scored and have to be reviewed: that alone "
            f"is more than max_reviews={max_reviews!r} allows."
        )
        return Fitted(rule, thresholds, (evidence,), error=error)
    return Fitted(rule, thresholds, (evidence,), evidence.precision_lower_bound, share)


def by_cost(rows: Rows, rule: CostRule, confidence: float, seed: int) -> Fitted:
    """Take the rule as it is; labels only report what it costs."""
    evidence = _as_it_is(rows, rule, np.nan, confidence)
    if rows.codes is None:
        expected = rule.expected(rows.proba).min(axis=1)
        cost = float(np.where(np.isnan(expected), rule.review_cost, expected).mean())
        return Fitted(rule, None, (evidence,), cost=cost)
    incurred = rule.incurred(rows.proba, rows.codes)
    interval = mean_interval(incurred, *rule.range(), confidence, seed)
    return Fitted(
        rule,
        None,
        (evidence,),
        evidence.precision_lower_bound,
        cost=float(incurred.mean()),
        cost_interval=interval,
    )


def _as_it_is(rows: Rows, rule: Rule, threshold: float, confidence: float) -> PolicyEvidence:
    """Judge a rule that no label has shaped: its plain binomial bound holds."""
    accepted = rule.act(rows.proba) == ACCEPT
    n_accepted = int(accepted.sum())
    errors, bound = None, None
    if rows.codes is not None:
        errors = int((rule.pick(rows.proba) != rows.codes)[accepted].sum())
        bound = precision_lower_bound(n_accepted, errors, confidence) if n_accepted else None
    return PolicyEvidence(None, threshold, len(rows.proba), n_accepted, errors, bound, confidence)
